"""Which peers are connected, alive, banned or to be redialled."""
