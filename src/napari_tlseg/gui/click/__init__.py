"""Clicking targets."""
