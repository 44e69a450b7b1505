"""What `script/docs` does: builds the site of the documentation, and writes docs/cli.md."""
