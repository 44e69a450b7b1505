"""Has the kernel say something on a connection that is silent, before a NAT forgets it."""

import socket
from typing import Any, Final

# Home routers forget a silent TCP mapping after minutes, mobile networks some after little more
# than two. A connection that answers none of the probes ends after these 2 minutes.
IDLE_S: Final = 60
BETWEEN_PROBES_S: Final = 15
PROBES: Final = 4
# Not every system has all of these.
OPTIONS: Final = (
    ("TCP_KEEPIDLE", IDLE_S),
    ("TCP_KEEPINTVL", BETWEEN_PROBES_S),
    ("TCP_KEEPCNT", PROBES),
)


def keep_alive(sock: Any) -> None:
    """Set this for a socket of asyncio, trio or Python, as far as its system can."""
    wanted = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in OPTIONS:
        if (option := getattr(socket, name, None)) is not None:
            wanted.append((socket.IPPROTO_TCP, option, value))
    for level, option, value in wanted:
        try:
            sock.setsockopt(level, option, value)
        except OSError:
            # A connection that is broken already, or none of TCP.
            return
