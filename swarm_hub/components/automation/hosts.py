"""Which hosts webhooks may call: names, `*.` names, addresses, networks; with a port or not."""

import ipaddress
import re
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import voluptuous as vol

from swarm_hub.util.bounds import shown

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_ENTRY: Final = re.compile(r"(\*\.)?[a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_])?\Z", re.ASCII)
_EXPECTED: Final = "expected a host such as hooks.example.org, nas:8080, 192.168.1.7 or 10.0.0.0/8"
_PORTS: Final = {"http": 80, "https": 443}


def host_entry(value: Any) -> str:
    """Validate an entry of the list."""
    if isinstance(value, str):
        name, port = _parted(value.lower())
        if (port is None or 1 <= port <= 65535) and (
            _network(name) is not None or _ENTRY.match(name)
        ):
            return value.lower()
    raise vol.Invalid(f"{_EXPECTED}, got {shown(value)}")


def split_url(url: str) -> SplitResult:
    """Return the parts of a webhook's URL; raises ValueError that says what is wrong with it."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("expected a URL such as https://hooks.example.org/path")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL with a password in it is not taken; use a header and !secret")
    if not parts.hostname.isascii():
        raise ValueError("expected a host name in ASCII (xn--…)")
    _ = parts.port  # raises ValueError for what is no port
    return parts


def port_of(parts: SplitResult) -> int:
    """Return the port that a URL means."""
    return parts.port or _PORTS[parts.scheme]


def is_allowed(hosts: Iterable[str], host: str, port: int) -> bool:
    """Whether the list names a host, or an address that is given in its place."""
    address = _address(host)
    for entry in hosts:
        name, only = _parted(entry)
        if only is not None and only != port:
            continue
        if address is not None:
            network = _network(name)
            if network is not None and address in network:
                return True
        elif name == host or (name.startswith("*.") and host.endswith(name[1:])):
            return True
    return False


def may_connect(hosts: Iterable[str], address: Address, port: int) -> bool:
    """Whether an address that a host name stands for may be connected to.

    Any public one may. A private one, of this device or of the network around it, has to be in the
    list itself: else whoever owns the name could have this hub call there.
    """
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    return (address.is_global and not address.is_multicast) or is_allowed(hosts, str(address), port)


def _parted(entry: str) -> tuple[str, int | None]:
    if entry.startswith("["):
        name, _, port = entry[1:].partition("]")
        return name, int(port[1:]) if port[1:].isdigit() else None
    if entry.count(":") == 1:
        name, _, port = entry.partition(":")
        return name, int(port) if port.isdigit() and port.isascii() else -1
    return entry, None


def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _network(name: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(name)
    except ValueError:
        return None
