"""The express plane: a connection beside a session, over which its frames go in fewer hops."""
