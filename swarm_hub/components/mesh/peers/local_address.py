"""Sessions whose end here has lost its address, as when a phone changes its network.

Nothing tells a connection so: it would stay silent until it missed its heartbeats. The kernel tells
of changes by rtnetlink(7); Android lets no app hear that, nor list addresses. To ask which one a
packet would leave from, and whether one can still be bound, is allowed, sends nothing and takes
microseconds.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from typing import Final

from swarm_hub.components.mesh.transports.base import Session

# Any port: nothing is sent there.
_PORT: Final = 9
# RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR of linux/rtnetlink.h.
_ADDRESSES: Final = 0x10 | 0x100
_NEWS_BYTES: Final = 64 * 1024


def source_towards(host: str) -> str | None:
    """Return the address that packets to a host leave from now, None without a way there."""
    with socket.socket(_family(host), socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, _PORT))
        except OSError:
            return None
        return str(probe.getsockname()[0])


def is_here(address: str) -> bool:
    """Whether an address is one of this device's."""
    with socket.socket(_family(address), socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
        return True


class AddressNews:
    """Sets `sign` whenever an address of this device comes or goes, where the kernel tells."""

    def __init__(self) -> None:
        self.sign = asyncio.Event()
        self._socket: socket.socket | None = None

    def open(self) -> bool:
        """Begin to listen; returns whether the kernel lets us."""
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
        try:
            news = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        except (AttributeError, OSError):
            return False
        try:
            news.bind((0, _ADDRESSES))
        except OSError:
            news.close()
            return False
        self._socket = news
        asyncio.get_running_loop().add_reader(news, self._read, news)
        return True

    def close(self) -> None:
        """Listen no more."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _read(self, news: socket.socket) -> None:
        # What has changed is looked up; too much of it at once is an error, and news as well.
        try:
            news.recv(_NEWS_BYTES)
        except BlockingIOError:
            return
        except OSError:
            pass
        self.sign.set()


class LocalAddresses:
    """From which address of this device each session goes out."""

    def __init__(
        self,
        source: Callable[[str], str | None] = source_towards,
        here: Callable[[str], bool] = is_here,
    ) -> None:
        self._source = source
        self._here = here
        self._of: dict[Session, tuple[str, str]] = {}

    def began(self, session: Session) -> None:
        """Note where a session goes out, unless it stays on this device."""
        host = _host(session.address)
        if host is not None and (address := self._source(host)) is not None:
            self._of[session] = host, address

    def ended(self, session: Session) -> None:
        """Forget a session."""
        self._of.pop(session, None)

    def moved(self) -> list[Session]:
        """Return the sessions whose address is gone while another one leads to the peer.

        Without any other, the same one may come back, and the connection with it.
        """
        gone = {each for _, each in self._of.values() if not self._here(each)}
        return [
            session
            for session, (host, address) in self._of.items()
            if address in gone and self._source(host) not in (None, address)
        ]


def _host(address: str) -> str | None:
    """Return the IP address in an address over IP, None for one that leads to this device."""
    parts = address.split("/")
    if len(parts) < 3 or parts[1] not in ("ip4", "ip6"):
        return None
    try:
        return None if ipaddress.ip_address(parts[2]).is_loopback else parts[2]
    except ValueError:
        return None


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
