"""swarm_hub turns spare phones and computers into one compute cluster."""
