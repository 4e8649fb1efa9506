"""Masks as files."""
