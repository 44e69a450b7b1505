"""Bytes under their SHA-256: files, chunks in a shared database, uploads on their way."""
