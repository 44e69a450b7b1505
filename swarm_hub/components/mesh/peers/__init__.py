"""Who is connected, alive, banned or to be dialled again."""
