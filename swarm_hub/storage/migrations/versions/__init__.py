"""One module a schema revision, in the order of their names."""
