"""Drained nodes: kept from new work by an administrator, at every gateway of the store."""

import logging
from collections.abc import Callable, Iterable
from typing import Self

from swarm_hub.components.gateway.links.base import NodeLinks
from swarm_hub.core import Hub
from swarm_hub.models.event import DurableEvent, EventType, NewEvent
from swarm_hub.models.node import NodeRecord
from swarm_hub.storage.queries import nodes

_LOGGER = logging.getLogger(__name__)


class Drains:
    """Which nodes are drained and why; tells the nodes to give back what has not begun."""

    def __init__(self, hub: Hub, links: NodeLinks, reasons: dict[str, str]) -> None:
        self._hub = hub
        self._links = links
        self._reasons = reasons
        self._changed: Callable[[str], None] = lambda _node_id: None
        hub.bus.listen(DurableEvent, self._on_event)

    @classmethod
    def of(cls, hub: Hub, links: NodeLinks, known: Iterable[NodeRecord]) -> Self:
        """Take what the store kept across the last stop."""
        found = {node.peer_id: node.drain_reason for node in known if node.drain_reason is not None}
        return cls(hub, links, found)

    def on_change(self, changed: Callable[[str], None]) -> None:
        """Have `changed(node id)` called when a node is drained or gets work again."""
        self._changed = changed

    def reason(self, node_id: str) -> str | None:
        """Return why a node is drained, None when it is not."""
        return self._reasons.get(node_id)

    async def drain(self, node_id: str, reason: str) -> None:
        """Keep a node from new work; this is on disk when it returns."""
        event = NewEvent(EventType.NODE_DRAINED, {"node_id": node_id, "reason": reason})
        await self._change(node_id, reason, event)

    async def undrain(self, node_id: str) -> bool:
        """Give a node work again; returns whether it was drained."""
        if node_id not in self._reasons:
            return False
        event = NewEvent(EventType.NODE_UNDRAINED, {"node_id": node_id})
        await self._change(node_id, None, event)
        return True

    async def _change(self, node_id: str, reason: str | None, event: NewEvent) -> None:
        await self._hub.store.commit([nodes.drain(node_id, reason)], [event])
        self._set(node_id, reason)
        # Should the event come after the next change, it would take that back for a moment.
        await self._hub.store.catch_up()

    def greet(self, node_id: str) -> None:
        """Tell a node that has just connected that it is drained."""
        if node_id in self._reasons:
            self._tell(node_id)

    def _on_event(self, event: DurableEvent) -> None:
        """Follow the drains of this gateway and of the others on its store."""
        if event.event_type is EventType.NODE_DRAINED:
            self._set(event.data["node_id"], event.data["reason"])
        elif event.event_type is EventType.NODE_UNDRAINED:
            self._set(event.data["node_id"], None)

    def _set(self, node_id: str, reason: str | None) -> None:
        if reason == self._reasons.get(node_id):
            return
        if reason is None:
            del self._reasons[node_id]
            _LOGGER.info("%s gets work again", node_id)
        else:
            self._reasons[node_id] = reason
            _LOGGER.info("%s gets no more work: %s", node_id, reason)
        # First the scheduler: what the node gives back must not go to it again.
        self._changed(node_id)
        self._tell(node_id)

    def _tell(self, node_id: str) -> None:
        if (link := self._links.get(node_id)) is not None:
            link.drain(self._reasons.get(node_id))
