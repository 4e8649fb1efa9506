"""Parts of docks that know nothing of what they show."""
