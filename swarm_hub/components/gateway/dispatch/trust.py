"""How far nodes may be trusted: who owns them, and how often others confirmed their results."""

from dataclasses import dataclass, replace
from typing import Self

from swarm_hub.core import Hub
from swarm_hub.models.node import NodeRecord
from swarm_hub.storage import Write
from swarm_hub.storage.queries import nodes


@dataclass(frozen=True, slots=True)
class Standing:
    """`owner` has one vote on a shard; `agreements` counts the confirmed results in a row."""

    owner: str = ""
    agreements: int = 0
    contradictions: int = 0


class Trust:
    """Keeps every node's standing, in memory and in the store."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._standings: dict[str, Standing] = {}

    @classmethod
    async def load(cls, hub: Hub) -> Self:
        """Read what the store kept across the last stop."""
        trust = cls(hub)
        for record in await hub.store.read(nodes.all_nodes):
            trust._standings[record.peer_id] = _standing(record)
        return trust

    def of(self, node_id: str) -> Standing:
        """Return a node's standing."""
        return self._standings.get(node_id, _UNKNOWN)

    def knows(self, node_id: str) -> bool:
        """Whether a node has connected before."""
        return node_id in self._standings

    def owner(self, node_id: str) -> str:
        """Return who votes with a node: the person it was invited for, else the node itself."""
        return self.of(node_id).owner or node_id

    async def learn(self, node_id: str) -> None:
        """Read who owns a node that was just admitted."""
        record = await self._hub.store.read(nodes.get, node_id)
        if record is not None:
            known = self._standings.get(node_id, _standing(record))
            self._standings[node_id] = replace(known, owner=record.owner or "")

    async def refresh(self) -> list[str]:
        """Read what other gateways on a shared store judged; returns the nodes that changed.

        This gateway's own latest judgements may not be in the store yet; then the next refresh
        corrects it.
        """
        changed = []
        for record in await self._hub.store.read(nodes.all_nodes):
            standing = _standing(record)
            if self.of(record.peer_id) != standing:
                self._standings[record.peer_id] = standing
                changed.append(record.peer_id)
        return changed

    def judge(self, judged: list[tuple[str, bool]]) -> Write:
        """Count results that others confirmed or contradicted; returns the rows to store."""
        for node_id, agreed in judged:
            old = self.of(node_id)
            self._standings[node_id] = replace(
                old,
                agreements=old.agreements + 1 if agreed else 0,
                contradictions=old.contradictions + (not agreed),
            )
        return nodes.judge(judged)


def _standing(record: NodeRecord) -> Standing:
    return Standing(record.owner or "", record.agreements, record.contradictions)


_UNKNOWN = Standing()
