"""What components share on top of the core: validation, platforms."""
