"""How the gateway reaches its nodes, whatever carries it."""
