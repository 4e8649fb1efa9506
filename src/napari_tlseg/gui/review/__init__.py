"""Where runs err, and correcting it."""
