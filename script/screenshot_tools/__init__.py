"""What `script/screenshots` does."""
