"""Bans of peers and of networks: stored, refused at connection, lifted by hand or by expiry."""

import ipaddress
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Self

from swarm_hub.components.mesh.identity import IpNetwork, ip_of, parse_networks
from swarm_hub.components.mesh.transports.base import Bans, Session, TransportEvents
from swarm_hub.core import Hub
from swarm_hub.exceptions import MeshError, StoreError
from swarm_hub.models.event import DurableEvent, EventType, NewEvent
from swarm_hub.models.node import NodeRecord
from swarm_hub.storage.queries import networks, nodes
from swarm_hub.tasks import TaskSupervisor

_LOGGER = logging.getLogger(__name__)

_OF_NODES: Final = frozenset({EventType.NODE_BANNED, EventType.NODE_UNBANNED})
_OF_NETWORKS: Final = frozenset({EventType.NETWORK_BANNED, EventType.NETWORK_UNBANNED})
# How many peers one statement asks for.
_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Ban:
    """Why somebody is banned, and until when: seconds since the epoch, None for no end."""

    reason: str
    until: float | None


class BanList:
    """The bans in force, by peer id and by network."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._peers: dict[str, Ban] = {}
        self._networks: dict[str, Ban] = {}
        self._refusing: Sequence[Bans] = ()
        self._disconnect: Callable[[str, str], Awaitable[None]] | None = None
        self._over: Callable[[str], None] = lambda _peer: None
        # Whose bans others have changed, until they are read.
        self._to_read: set[str] = set()
        self._reading = False

    @classmethod
    async def load(cls, hub: Hub) -> Self:
        """Read the stored bans."""
        bans = cls(hub)
        await bans._reload()
        if hub.store.shared:
            hub.bus.listen(DurableEvent, bans._on_event)
        return bans

    def enforce(
        self,
        refusing: Sequence[Bans],
        disconnect: Callable[[str, str], Awaitable[None]],
        over: Callable[[str], None],
    ) -> None:
        """Have these enforce the bans.

        `disconnect` ends the live sessions of a peer, `over` hears whose ban is over.
        """
        self._refusing = refusing
        self._disconnect = disconnect
        self._over = over

    def apply(self) -> None:
        """Tell the enforcers whom to refuse now; called often, as bans expire."""
        peers, banned = self._in_force(self._peers), self._in_force(self._networks)
        for each in self._refusing:
            each.ban(peers, banned)

    def of(self, peer_id: str) -> Ban | None:
        """Return the ban of a peer that is in force."""
        ban = self._peers.get(peer_id)
        return None if ban is None or self._is_over(ban) else ban

    def networks(self) -> dict[str, Ban]:
        """Return the networks that are banned now."""
        return self._in_force(self._networks)

    def refuses_ip(self, ip: str) -> bool:
        """Whether an IP address is in a network that is banned now."""
        address = ipaddress.ip_address(ip.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        banned = self._in_force(self._networks)
        return any(address in ipaddress.ip_network(cidr) for cidr in banned)

    async def add(self, peer_id: str, reason: str, until: float | None) -> None:
        """Ban a peer in both directions and end its session; the ban is stored first."""
        ban = self._peers[peer_id] = Ban(reason, until)
        _LOGGER.warning("Banned %s: %s", peer_id, reason)
        data = {"node_id": peer_id, "reason": reason, "until": until}
        await self._hub.store.commit(
            nodes.ban(peer_id, reason, self._hub.clock.time(), until),
            [NewEvent(EventType.NODE_BANNED, data)],
        )
        self.apply()
        # It may be over or lifted since it was stored.
        await self._cut({peer_id: ban})

    async def lift(self, peer_id: str) -> bool:
        """Lift the ban of a peer; returns whether there was one."""
        if self._peers.pop(peer_id, None) is None:
            return False
        await self._hub.store.commit(
            [nodes.unban(peer_id)], [NewEvent(EventType.NODE_UNBANNED, {"node_id": peer_id})]
        )
        self.apply()
        self._over(peer_id)
        return True

    async def add_network(self, network: IpNetwork, reason: str, until: float | None) -> None:
        """Ban a network in both directions and cut its connections; the ban is stored first."""
        cidr = str(network)
        self._networks[cidr] = Ban(reason, until)
        _LOGGER.warning("Banned the network %s: %s", cidr, reason)
        data = {"network": cidr, "reason": reason, "until": until}
        await self._hub.store.commit(
            [networks.ban(cidr, reason, self._hub.clock.time(), until)],
            [NewEvent(EventType.NETWORK_BANNED, data)],
        )
        self.apply()

    async def lift_network(self, network: IpNetwork) -> bool:
        """Lift the ban of a network; returns whether there was one."""
        cidr = str(network)
        if self._networks.pop(cidr, None) is None:
            return False
        await self._hub.store.commit(
            [networks.unban(cidr)], [NewEvent(EventType.NETWORK_UNBANNED, {"network": cidr})]
        )
        self.apply()
        return True

    def _in_force(self, bans: dict[str, Ban]) -> dict[str, Ban]:
        for name in [name for name, ban in bans.items() if self._is_over(ban)]:
            _LOGGER.info("The ban of %s has ended; it was: %s", name, bans.pop(name).reason)
            self._over(name)
        return dict(bans)

    def _is_over(self, ban: Ban) -> bool:
        clock = self._hub.clock
        # A clock that jumped forward lifts no ban.
        return ban.until is not None and ban.until <= clock.time() and clock.is_settled

    def _on_event(self, event: DurableEvent) -> None:
        """Follow the bans of other hubs on a shared store."""
        if event.event_type in _OF_NETWORKS:
            self._hub.tasks.spawn(self._follow_networks(), "reload bans of networks")
        elif event.event_type in _OF_NODES:
            self._to_read.add(event.data["node_id"])
            if not self._reading:
                self._reading = True
                self._hub.tasks.spawn(self._follow(), "read bans")

    async def _follow(self) -> None:
        """Read whose bans have changed, and no others: there may be many nodes."""
        try:
            while self._to_read:
                await self._read(set(islice(self._to_read, _AT_ONCE)))
        finally:
            self._reading = False

    async def _read(self, changed: set[str]) -> None:
        # Of whom we hear again meanwhile are read again.
        self._to_read -= changed
        try:
            banned = _bans(await self._hub.store.read(nodes.bans_of, changed))
        except StoreError:
            self._to_read |= changed
            raise
        for peer_id in changed - banned.keys():
            if self._peers.pop(peer_id, None) is not None:
                self._over(peer_id)
        self._peers |= banned
        self.apply()
        await self._cut(banned)

    async def _follow_networks(self) -> None:
        await self._reload_networks()
        self.apply()

    async def _reload(self) -> None:
        self._peers = _bans(await self._hub.store.read(nodes.all_nodes))
        await self._reload_networks()
        self._in_force(self._peers)

    async def _reload_networks(self) -> None:
        self._networks = {
            row.cidr: Ban(row.reason, row.until)
            for row in await self._hub.store.read(networks.all_banned)
        }
        self._in_force(self._networks)

    async def _cut(self, banned: dict[str, Ban]) -> None:
        if self._disconnect is not None:
            for peer_id, ban in dict(banned).items():
                await self._disconnect(peer_id, f"banned: {ban.reason}")


def _bans(known: Iterable[NodeRecord]) -> dict[str, Ban]:
    return {
        node.peer_id: Ban(node.ban_reason or "", node.ban_until)
        for node in known
        if node.banned_at is not None
    }


class SessionBans:
    """`Bans` for a transport without bans of its own: a session is cut as soon as it is live.

    It stands between that transport and the listener to its events.
    """

    def __init__(self, tasks: TaskSupervisor, events: TransportEvents) -> None:
        self._tasks = tasks
        self._events = events
        self.received = events.received
        self.gossiped = events.gossiped
        self.discovered = events.discovered
        self.flooded = events.flooded
        self.failed = events.failed
        self._live: set[Session] = set()
        self._peers: frozenset[str] = frozenset()
        self._networks: tuple[IpNetwork, ...] = ()

    def ban(self, peer_ids: Collection[str], cidrs: Collection[str] = ()) -> None:
        """Replace the bans and cut the sessions they hit."""
        self._peers, self._networks = frozenset(peer_ids), parse_networks(cidrs)
        for session in tuple(self._live):
            self._cut_if_banned(session)

    def peer_up(self, session: Session) -> None:
        """Tell of a session, or cut it."""
        self._live.add(session)
        if not self._cut_if_banned(session):
            self._events.peer_up(session)

    def peer_down(self, session: Session, reason: str) -> None:
        """Tell that a session has ended."""
        self._live.discard(session)
        self._events.peer_down(session, reason)

    def _cut_if_banned(self, session: Session) -> bool:
        ip = ip_of(session.address)
        is_banned = session.peer_id in self._peers or (
            ip is not None and any(ip in network for network in self._networks)
        )
        if is_banned:
            self._live.discard(session)
            self._tasks.spawn(session.close("the peer is banned"), "cut a banned peer")
        return is_banned


def parse_network(text: str) -> IpNetwork:
    """Return a network, or a single address as one; raises MeshError."""
    try:
        return ipaddress.ip_network(text.strip())
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise MeshError(
            f"{text[:50]!r} is no network: expected an address range such as 10.1.0.0/16"
        ) from None
    raise MeshError(f"{text[:50]} is an address within a network; that network is {meant}")


def own_within(network: IpNetwork, addresses: Sequence[str]) -> str | None:
    """Return an address of this hub that is in a network, its loopback included, or None."""
    own = ["127.0.0.1", "::1", *(str(ip) for each in addresses if (ip := ip_of(each)))]
    for text in own:
        if ipaddress.ip_address(text) in network:
            return text
    loopback = ipaddress.ip_network("127.0.0.0/8" if network.version == 4 else "::1")
    return str(network) if network.overlaps(loopback) else None
