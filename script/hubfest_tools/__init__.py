"""What `script/hubfest` does: holds components to what they say of themselves."""
