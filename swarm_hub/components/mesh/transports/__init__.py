"""Ways to reach a peer: what every transport has, and the transports there are."""
