"""The nodes of this gateway: which are connected, drained or invited, and from which networks."""
