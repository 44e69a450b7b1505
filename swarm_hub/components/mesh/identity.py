"""Peer ids and peer addresses, checked and derived without libp2p."""

import ipaddress
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from swarm_hub.exceptions import MeshError
from swarm_hub.models.peer_id import (
    is_peer_id,
    peer_id_from_public_key,
    public_key_from_peer_id,
)
from swarm_hub.util.ed25519 import SigningKey

__all__ = [
    "IpNetwork",
    "PeerAddress",
    "expand_wildcard",
    "hearsay_address",
    "ip_of",
    "is_peer_id",
    "parse_dial_address",
    "parse_listen_address",
    "parse_networks",
    "peer_id_from_public_key",
    "peer_id_from_seed",
    "public_key_from_peer_id",
    "without_loopback",
]

_MAX_ADDRESS_LENGTH = 512
_HOST_KINDS = ("ip4", "ip6", "dns", "dns4", "dns6")
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_SHAPE = "/ip4|ip6|dns|dns4|dns6/<host>/tcp/<port>"

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """A parsed address: where to connect and who must answer there."""

    host_kind: str
    host: str
    port: int
    peer_id: str | None

    @property
    def location(self) -> str:
        """The address without the peer id."""
        return f"/{self.host_kind}/{self.host}/tcp/{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether it leads to this device itself; False for a host name, which does not tell."""
        return self.host_kind in ("ip4", "ip6") and _is_loopback(self.host)

    def __str__(self) -> str:
        return self.location if self.peer_id is None else f"{self.location}/p2p/{self.peer_id}"


def peer_id_from_seed(seed: bytes) -> str:
    """The peer id of the Ed25519 identity made from a 32-byte seed."""
    if len(seed) != 32:
        raise MeshError(f"an identity seed has exactly 32 bytes, this one has {len(seed)}")
    return peer_id_from_public_key(SigningKey(seed).public_key)


def parse_dial_address(address: str) -> PeerAddress:
    """Check an address to dial: a host, a TCP port and a peer id, nothing else."""
    parsed = _parse(address, f"{_SHAPE}/p2p/<peer id>")
    if parsed.peer_id is None:
        raise MeshError(f"address {address!r} names no peer: add /p2p/<peer id>")
    if parsed.port == 0:
        raise MeshError(f"address {address!r} has port 0, which nobody can answer on")
    return parsed


def parse_listen_address(address: str) -> PeerAddress:
    """Check an address to listen on: an IP address and a TCP port (0 picks a free one)."""
    parsed = _parse(address, "/ip4|ip6/<address>/tcp/<port>")
    if parsed.host_kind not in ("ip4", "ip6"):
        raise MeshError(f"cannot listen on {address!r}: expected an /ip4 or /ip6 address")
    if parsed.peer_id is not None:
        raise MeshError(f"cannot listen on {address!r}: leave out /p2p/…")
    return parsed


def hearsay_address(text: str, peer_id: str, *, loopback_too: bool) -> PeerAddress | None:
    """Return the address of a peer as told by a third party, if it may be dialled.

    It must be an IP address that another device may have. A name would let the third party make
    this hub look it up; a link-local address could lead to services of the device or of its host.
    """
    location, _, named = text.partition("/p2p/")
    try:
        address = parse_dial_address(f"{location}/p2p/{peer_id}")
    except MeshError:
        return None
    if address.host_kind not in ("ip4", "ip6") or named not in ("", peer_id):
        return None
    ip = ipaddress.ip_address(address.host)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return None
    return address if loopback_too or not ip.is_loopback else None


def ip_of(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that an address leads to, None if it names none."""
    parts = address.split("/")
    if len(parts) < 3 or parts[1] not in ("ip4", "ip6"):
        return None
    try:
        ip = ipaddress.ip_address(parts[2])
    except ValueError:
        return None
    # A listener on IPv6 may see an IPv4 address in its mapped form.
    return getattr(ip, "ipv4_mapped", None) or ip


def parse_networks(cidrs: Collection[str]) -> tuple[IpNetwork, ...]:
    """Check banned networks or single IP addresses."""
    try:
        return tuple(ipaddress.ip_network(cidr, strict=False) for cidr in cidrs)
    except ValueError as error:
        raise MeshError(f"cannot ban an address range: {error}") from error


def expand_wildcard(address: PeerAddress, interface_ips: Collection[str]) -> list[PeerAddress]:
    """Turn "every interface" into the addresses others can dial; keep other addresses as is."""
    if not ipaddress.ip_address(address.host).is_unspecified:
        return [address]
    version = 4 if address.host_kind == "ip4" else 6
    fitting = [ip for ip in interface_ips if _is_dialable(ip, version)]
    return [replace(address, host=ip) for ip in fitting] or [address]


def without_loopback(addresses: Sequence[str]) -> tuple[str, ...]:
    """The addresses of use to other devices; all of them if there are no others."""
    others = [one for one in addresses if not _is_loopback(parse_dial_address(one).host)]
    return tuple(others or addresses)


def _is_loopback(ip: str) -> bool:
    return ipaddress.ip_address(ip).is_loopback


def _is_dialable(ip: str, version: int) -> bool:
    parsed = ipaddress.ip_address(ip)
    return parsed.version == version and not parsed.is_link_local


def _parse(address: str, shape: str) -> PeerAddress:
    wrong = MeshError(f"address {address[:100]!r} is not understood: expected {shape}")
    parts = address.split("/")
    if len(address) > _MAX_ADDRESS_LENGTH or len(parts) not in (5, 7) or parts[0] != "":
        raise wrong
    _, kind, host, tcp, port, *rest = parts
    if kind not in _HOST_KINDS or tcp != "tcp" or not _host_fits(kind, host):
        raise wrong
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise wrong
    if not rest:
        return PeerAddress(kind, host, int(port), None)
    if rest[0] != "p2p" or not is_peer_id(rest[1]):
        raise wrong
    return PeerAddress(kind, host, int(port), rest[1])


def _host_fits(kind: str, host: str) -> bool:
    try:
        if kind == "ip4":
            ipaddress.IPv4Address(host)
        elif kind == "ip6":
            ipaddress.IPv6Address(host)
        else:
            labels = host.removesuffix(".").split(".")
            return len(host) <= 253 and all(_LABEL.fullmatch(label) for label in labels)
    except ValueError:
        return False
    return True
