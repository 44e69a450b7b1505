"""Labels that administrators give nodes, beside those that the nodes bring; kept in the store."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Self

from swarm_hub.core import Hub
from swarm_hub.exceptions import InvalidInput
from swarm_hub.models.event import DurableEvent, EventType, NewEvent
from swarm_hub.models.node import LABELS_MAX, NodeRecord
from swarm_hub.storage.queries import nodes


class NodeLabels:
    """What this gateway, and the others of its store, add to the labels of each node."""

    def __init__(self, hub: Hub, given: dict[str, dict[str, str]]) -> None:
        self._hub = hub
        self._given = given
        self._changed: Callable[[str], None] = lambda _node_id: None
        hub.bus.listen(DurableEvent, self._on_event)

    @classmethod
    def of(cls, hub: Hub, known: Iterable[NodeRecord]) -> Self:
        """Take what the store kept across the last stop."""
        return cls(
            hub,
            {node.peer_id: json.loads(node.labels) for node in known if node.labels is not None},
        )

    def on_change(self, changed: Callable[[str], None]) -> None:
        """Have `changed(node id)` called when a node has other labels than before."""
        self._changed = changed

    def beside(self, node_id: str, own: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        """Return a node's labels: its `own`, and those given here, which win."""
        given = self._given.get(node_id)
        return own if given is None else frozenset({**dict(own), **given}.items())

    async def give(self, node_id: str, labels: Mapping[str, str | None]) -> None:
        """Set labels of a node, or take away what was given here (None); durable on return."""
        changed = {**self._given.get(node_id, {}), **labels}
        kept = {name: text for name, text in sorted(changed.items()) if text is not None}
        if len(kept) > LABELS_MAX:
            raise InvalidInput("too_many_labels", f"a node has at most {LABELS_MAX} labels")
        event = NewEvent(EventType.NODE_LABELLED, {"node_id": node_id, "labels": kept})
        await self._hub.store.commit([nodes.label(node_id, kept)], [event])
        self._set(node_id, kept)
        # Should the event come after the next change, it would take that back for a moment.
        await self._hub.store.catch_up()

    def _on_event(self, event: DurableEvent) -> None:
        """Follow what this gateway and the others on its store give."""
        if event.event_type is EventType.NODE_LABELLED:
            self._set(event.data["node_id"], event.data["labels"])

    def _set(self, node_id: str, labels: dict[str, str]) -> None:
        if labels == self._given.get(node_id, {}):
            return
        self._given[node_id] = labels
        self._changed(node_id)
