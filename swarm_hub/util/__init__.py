"""Small pure tools without knowledge of the hub."""
