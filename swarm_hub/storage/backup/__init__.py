"""Copies of a whole hub: made, scheduled and restored."""
