"""What `script/scaffold` does: writes the files of what is to be added, from templates."""
