"""What multiaddr uses of netaddr, by `ipaddress`; stricter, as `1` is no address here."""

import ipaddress
import socket


class AddrFormatError(ValueError):
    """Stands for netaddr's error; what is raised here is a plain ValueError."""


class IPAddress:
    """An address from its text or its number."""

    def __init__(self, address: str | int, version: int) -> None:
        kind = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
        self._address = kind(address)

    @property
    def packed(self) -> bytes:
        """Its bytes."""
        return self._address.packed

    def __str__(self) -> str:
        # `ipaddress` writes an IPv4 address that is mapped into IPv6 in hexadecimal digits.
        family = socket.AF_INET if self._address.version == 4 else socket.AF_INET6
        return socket.inet_ntop(family, self._address.packed)
