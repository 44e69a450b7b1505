"""How many bytes the mesh has moved over the network since this process began."""


class Traffic:
    """Two counts, since each is added to by one thread only."""

    def __init__(self) -> None:
        # By the connections of the transport, in its thread.
        self.connections_bytes = 0
        # By the bulk and the express plane, on the hub's loop.
        self.direct_bytes = 0

    @property
    def total_bytes(self) -> int:
        """What was sent and received, with all that protects it, but without the headers of TCP."""
        return self.connections_bytes + self.direct_bytes


TRAFFIC = Traffic()
