"""How far nodes may be trusted: who owns them, how often others confirmed their results.

And of which programs they get no work for a while, and how fast they run them.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

from swarm_hub.core import Hub
from swarm_hub.models.node import NodeRecord, ProgramSpeed, Quarantine
from swarm_hub.storage import Write
from swarm_hub.storage.queries import meta, nodes
from swarm_hub.util.plain import shallow

# None is longer; a clock that was set back between two lives makes none so.
_QUARANTINE_MAX_S: Final = 3600.0
_REASON_MAX_CHARS: Final = 200
# What was judged is found by its time, which is that at which its transaction began.
_COMMITTED_WITHIN_S: Final = 60.0


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
        # By node; their times are those of the hub's steady clock.
        self._quarantines: dict[str, tuple[Quarantine, ...]] = {}
        self._speeds: dict[str, tuple[ProgramSpeed, ...]] = {}
        # Up to when what others judged is known.
        self._refreshed_at = hub.clock.steady()

    @classmethod
    async def load(cls, hub: Hub) -> Self:
        """Read what the store kept across the last stop."""
        trust = cls(hub)
        for record in await hub.store.read(nodes.all_nodes):
            trust._standings[record.peer_id] = _standing(record)
            if record.speeds is not None:
                speeds = tuple(ProgramSpeed(**each) for each in json.loads(record.speeds))
                trust._speeds[record.peer_id] = speeds
        over = []
        for node_id, found in (await hub.store.read(meta.quarantines)).items():
            trust._quarantines[node_id] = tuple(Quarantine(**each) for each in found)
            if not trust.quarantines(node_id):
                over.append(meta.put_quarantines(node_id, []))
        if over:
            hub.store.note(over)
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

    def quarantines(self, node_id: str) -> tuple[Quarantine, ...]:
        """Return of which programs a node gets no work; their times are monotonic ones."""
        clock = self._hub.clock
        left = [
            (each, min(each.until - clock.steady(), _QUARANTINE_MAX_S))
            for each in self._quarantines.get(node_id, ())
        ]
        return tuple(
            replace(each, until=clock.monotonic() + left_s) for each, left_s in left if left_s > 0
        )

    def quarantined(self, node_id: str, quarantines: Sequence[Quarantine]) -> Write:
        """Remember of which programs a node gets no work; returns the row to store."""
        clock = self._hub.clock
        kept = tuple(
            replace(
                each,
                until=clock.steady() + each.until - clock.monotonic(),
                reason=each.reason[:_REASON_MAX_CHARS],
            )
            for each in quarantines
        )
        self._quarantines[node_id] = kept
        return meta.put_quarantines(node_id, [shallow(each) for each in kept])

    def speeds(self, node_id: str) -> tuple[ProgramSpeed, ...]:
        """Return how fast a node ran each program when that was last noted."""
        return self._speeds.get(node_id, ())

    def measured(self, node_id: str, speeds: Iterable[ProgramSpeed]) -> Write:
        """Remember how fast a node runs each program; returns the row to store."""
        self._speeds[node_id] = tuple(speeds)
        return nodes.measured(node_id, self._speeds[node_id])

    async def refresh(self) -> list[str]:
        """Read what other gateways on a shared store judged; returns the nodes that changed.

        This gateway's own latest judgements may not be in the store yet; then the next refresh
        corrects it.
        """
        clock = self._hub.clock
        began = clock.steady()
        within_s = began - self._refreshed_at + _COMMITTED_WITHIN_S
        changed = []
        for record in await self._hub.store.read(nodes.judged, within_s):
            standing = _standing(record)
            if self.of(record.peer_id) != standing:
                self._standings[record.peer_id] = standing
                changed.append(record.peer_id)
        self._refreshed_at = began
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
