"""Bytes by their hash: asking for them, moving them, finding who has them."""
