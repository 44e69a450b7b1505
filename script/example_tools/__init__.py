"""What `script/example` does: finds, builds and runs the examples."""
