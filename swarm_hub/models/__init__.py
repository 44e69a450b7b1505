"""Frozen values that the packages hand to each other."""
