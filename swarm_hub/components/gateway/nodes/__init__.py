"""The nodes of this gateway: who is here, drained, invited, and from which networks."""
