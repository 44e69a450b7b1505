"""Banned peers: kept in the store, refused at connection, lifted by hand or by expiry."""

import logging
from typing import Self

from swarm_hub.core import Hub
from swarm_hub.models.event import EventType, NewEvent
from swarm_hub.storage import nodes

_LOGGER = logging.getLogger(__name__)


class BanList:
    """The bans in force; `until` is seconds since the epoch, None for ever."""

    def __init__(self, hub: Hub, bans: dict[str, float | None]) -> None:
        self._hub = hub
        self._bans = bans

    @classmethod
    async def load(cls, hub: Hub) -> Self:
        """Read the bans that survived the last stop."""
        bans = cls(hub, {})
        await bans.reload()
        return bans

    async def reload(self) -> None:
        """Read the bans again: on a shared store another gateway may have changed them."""
        known = await self._hub.store.read(nodes.all_nodes)
        self._bans = {node.peer_id: node.ban_until for node in known if node.banned_at is not None}

    def banned(self) -> set[str]:
        """Return the peers that are banned now."""
        now = self._hub.clock.time()
        return {peer for peer, until in self._bans.items() if until is None or until > now}

    async def add(self, peer_id: str, reason: str, until: float | None) -> None:
        """Ban a peer; it is on disk when this returns."""
        self._bans[peer_id] = until
        _LOGGER.warning("Banned %s: %s", peer_id, reason)
        await self._hub.store.commit(
            nodes.ban(peer_id, reason, self._hub.clock.time(), until),
            [NewEvent(EventType.NODE_BANNED, {"node_id": peer_id, "reason": reason})],
        )

    async def lift(self, peer_id: str) -> bool:
        """Lift a ban; returns whether there was one."""
        if peer_id not in self._bans:
            return False
        del self._bans[peer_id]
        await self._hub.store.commit(
            [nodes.unban(peer_id)], [NewEvent(EventType.NODE_UNBANNED, {"node_id": peer_id})]
        )
        return True
