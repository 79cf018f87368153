"""Presets and overlays, and what they take of a GPU."""
