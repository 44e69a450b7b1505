"""Which transports there are, by scheme, and the instances that one hub uses."""

import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from swarm_hub.components.mesh.transports import libp2p, loopback
from swarm_hub.components.mesh.transports.base import Transport, TransportOptions

# The one within this process, which every hub has.
LOOPBACK: Final = "loopback"
# Addresses over IP have a grammar of the mesh's own (`mesh/identity.py`).
IP_PREFIXES: Final = ("/ip4/", "/ip6/", "/dns/", "/dns4/", "/dns6/")

Make = Callable[[TransportOptions], Transport]


@dataclass(frozen=True, slots=True)
class TransportKind:
    """A kind of transport: the prefixes of its addresses, and how to make one."""

    prefixes: tuple[str, ...]
    make: Make


def register_transport(scheme: str, prefixes: tuple[str, ...], make: Make) -> None:
    """Let `mesh: transport` name this scheme; a custom component calls this when it is imported.

    An address belongs to the kind with its prefix, e.g. `/memory/`. The set-up of a mesh calls
    `make`, which raises SetupError if it can't work; import in it what only this transport needs.
    """
    if scheme in _BUILT_IN:
        raise ValueError(f"the transport {scheme} is built in")
    # The same scheme again is the same component: it is imported for every hub and every check.
    for each in prefixes:
        if (owner := scheme_of(each)) not in (None, scheme):
            raise ValueError(f"addresses that begin with {each} belong to {owner}")
    _kinds[scheme] = TransportKind(prefixes, make)


def schemes() -> tuple[str, ...]:
    """The schemes that are registered."""
    return tuple(_kinds)


def load_libraries(scheme: str) -> None:
    """Import what a built-in transport imports only when it starts; raises ImportError."""
    if scheme == "libp2p":
        libp2p.load()


def listening(scheme: str, address: str) -> socket.socket | None:
    """Return a socket on an address of a built-in transport that has ports.

    Raises SetupError if the transport could not listen there.
    """
    return libp2p.listening(address) if scheme == "libp2p" else None


def scheme_of(address: str) -> str | None:
    """The scheme that an address belongs to, None if there is none."""
    found = (scheme for scheme, kind in _kinds.items() if address.startswith(kind.prefixes))
    return next(found, None)


class Transports:
    """The transports of one hub: the one within its process, and the one that is configured."""

    def __init__(self, configured: str, options: TransportOptions) -> None:
        self._made: Mapping[str, Transport] = {
            scheme: _kinds[scheme].make(options) for scheme in dict.fromkeys((LOOPBACK, configured))
        }
        self._configured = configured

    def __iter__(self) -> Iterator[Transport]:
        return iter(self._made.values())

    def __getitem__(self, scheme: str) -> Transport:
        return self._made[scheme]

    def addresses(self) -> tuple[str, ...]:
        """Where other devices can dial this hub; empty until the transport is up."""
        return tuple(
            address
            for scheme, transport in self._made.items()
            if scheme != LOOPBACK
            for address in transport.addresses()
        )

    async def dial(self, address: str) -> str:
        """Open a session, or find the live one; returns the peer id."""
        scheme = scheme_of(address)
        # The configured transport says what is wrong with an address that no transport knows.
        return await self._made.get(scheme or "", self._made[self._configured]).dial(address)

    async def dial_own(self) -> None:
        """Connect this hub to itself, as its own peer."""
        local = self._made[LOOPBACK]
        await local.dial(local.addresses()[0])


_kinds: dict[str, TransportKind] = {
    "libp2p": TransportKind(IP_PREFIXES, libp2p.make),
    LOOPBACK: TransportKind(("/memory/",), loopback.make),
}
_BUILT_IN: Final = frozenset(_kinds)
