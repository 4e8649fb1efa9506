"""Layers of the viewer: what is shown, and what is painted."""
