"""The nodes of this gateway: who is connected, what they can do, who gets no work or is banned."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Final

from swarm_hub.components.gateway.dispatch.dispatcher import Dispatcher
from swarm_hub.components.gateway.dispatch.trust import Trust
from swarm_hub.components.gateway.links.base import NodeLink, NodeWords
from swarm_hub.components.gateway.nodes.drains import Drains
from swarm_hub.components.gateway.nodes.labels import NodeLabels
from swarm_hub.components.gateway.nodes.losses import Losses
from swarm_hub.components.gateway.shapes import NodeDetails, Quarantine
from swarm_hub.components.mesh import Mesh, is_peer_id
from swarm_hub.components.scheduler import (
    JobLimits,
    NodeChange,
    NodeEntry,
    StateMachine,
    is_trusted,
)
from swarm_hub.components.signer import ADMISSION, EnvelopeChannel
from swarm_hub.components.telemetry import NodeTelemetry, TelemetryBoard
from swarm_hub.core import Hub
from swarm_hub.exceptions import NotFound
from swarm_hub.models.event import EventType, NewEvent
from swarm_hub.models.node import READY, NodeRecord, WorkerOffer
from swarm_hub.models.presence import NodeKind
from swarm_hub.storage.queries import nodes
from swarm_hub.util.clock import isoformat

if TYPE_CHECKING:
    from swarm_hub.repairs import Repair

# How soon gateways that share a store learn what the others know about a node's honesty.
_STANDING_EVERY_S: Final = 5.0
# Of so many nodes this gateway tells the others what they can do; more would not change what those
# decide.
_KINDS_OF_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Activity:
    """What all nodes are doing."""

    up: int
    working: int
    slots: int
    assignments: int


@dataclass(frozen=True, slots=True)
class AtHand:
    """What a node has and does; None means unknown."""

    slots: int | None
    assignments: int
    rtt_ms: float | None


class Fleet:
    """Keeps the scheduler's picture of the nodes true, and answers what is asked about them."""

    def __init__(
        self,
        hub: Hub,
        mesh: Mesh,
        channel: EnvelopeChannel,
        telemetry: TelemetryBoard,
        dispatcher: Dispatcher,
        machine: StateMachine,
        drains: Drains,
        labels: NodeLabels,
        trust: Trust,
    ) -> None:
        self._hub = hub
        self._mesh = mesh
        self._channel = channel
        self._telemetry = telemetry
        self._dispatcher = dispatcher
        self._machine = machine
        # What each connected worker said about itself when it connected.
        self._offers: dict[str, WorkerOffer] = {}
        self._names: dict[str, str] = {}
        self._losses = Losses(hub.clock)
        self._refusals: dict[str, str] = {}
        # Of nodes that refuse: the jobs that were here before, and which of the nodes finish them.
        self._before: dict[str, frozenset[str]] = {}
        self._finishing: set[str] = set()
        self._drains = drains
        self._labels = labels
        self._trust = trust
        # Why no node gets work any more, once this gateway is stopping.
        self._held_back: str | None = None
        drains.on_change(self._changed)
        labels.on_change(self._changed)
        self._links = dispatcher.links
        self._links.on_connected(self._on_connected)
        self._links.on_disconnected(self._on_disconnected)
        self._links.on_said(self._on_said)
        hub.bus.listen(NodeTelemetry, self._on_telemetry)
        hub.repair_sources.append(self._repairs)
        if hub.store.shared:
            hub.tasks.every(_STANDING_EVERY_S, self._refresh_standing, "standing of nodes")

    async def list(self) -> list[NodeDetails]:
        """Return every node this gateway has met, the connected ones first."""
        records = await self._hub.store.read(nodes.all_nodes)
        found = [self._described(record) for record in records]
        return sorted(found, key=lambda node: (node["slots"] is None, node["name"]))

    async def one(self, node_id: str) -> NodeDetails:
        """Return a node; raises NotFound for one that was never met."""
        return self._described(await self._known(node_id))

    async def ban(self, node_id: str, reason: str, for_s: float | None) -> NodeDetails:
        """Ban a node; raises NotFound for one that was never met."""
        await self._known(node_id)
        until = None if for_s is None else self._hub.clock.time() + for_s
        await self._mesh.ban(node_id, reason or "banned by an administrator", until)
        return await self.one(node_id)

    async def unban(self, node_id: str) -> None:
        """Lift a ban and let the node come back, also with a new signing key."""
        await self._known(node_id)
        await self._channel.forget_pin(node_id)
        await self._mesh.unban(node_id)

    async def drain(self, node_id: str, reason: str) -> NodeDetails:
        """Keep a node from new work, and have it give back what it has not begun."""
        await self._known(node_id)
        await self._drains.drain(node_id, reason or "drained by an administrator")
        return await self.one(node_id)

    async def undrain(self, node_id: str) -> NodeDetails:
        """Give a node work again."""
        await self._known(node_id)
        await self._drains.undrain(node_id)
        return await self.one(node_id)

    async def label(self, node_id: str, labels: Mapping[str, str | None]) -> NodeDetails:
        """Give a node labels beside its own; None takes one away that was given here."""
        await self._known(node_id)
        await self._labels.give(node_id, labels)
        return await self.one(node_id)

    async def hold_back(self) -> None:
        """Give out nothing more, as this gateway is stopping; the nodes keep what they have."""
        self._held_back = "the gateway is stopping"
        for node_id in self._offers:
            self._changed(node_id)

    async def approve(self, node_id: str) -> None:
        """Admit a node from its next try on; raises NotFound for anything that isn't a node."""
        if not is_peer_id(node_id):
            await self._known(node_id)
        await self._hub.services[ADMISSION].approve(node_id)

    def counts(self) -> dict[str, int]:
        """Return how many nodes are connected and how many slots they have."""
        return {
            "nodes": len(self._offers),
            "slots": sum(self._slots(node_id, offer) for node_id, offer in self._offers.items()),
        }

    def activity(self) -> Activity:
        """Return how many nodes are connected and work, their slots, and what they are given."""
        held = [self._n_held(node_id) for node_id in self._offers]
        return Activity(
            len(held), sum(n_held > 0 for n_held in held), self.counts()["slots"], sum(held)
        )

    def kinds(self) -> tuple[NodeKind, ...]:
        """Return what the nodes that take work can do, grouped, and how many slots are idle."""
        slots: Counter[NodeKind] = Counter()
        idle: Counter[NodeKind] = Counter()
        for node_id in islice(self._offers, _KINDS_OF_MAX):
            entry = self._machine.node(node_id)
            if entry is None or entry.change.refuses or entry.change.limits is not None:
                continue
            kind = _kind(entry.change)
            slots[kind] += entry.change.slots
            idle[kind] += max(0, entry.change.slots - len(entry.load))
        return tuple(replace(kind, slots=slots[kind], idle=idle[kind]) for kind in slots)

    def at_hand(self, node_id: str) -> AtHand:
        """Return what is known of a node besides what it measures itself."""
        offer = self._offers.get(node_id)
        return AtHand(
            None if offer is None else self._slots(node_id, offer),
            self._n_held(node_id),
            _milliseconds(self._rtt_s(node_id)),
        )

    def _n_held(self, node_id: str) -> int:
        entry = self._machine.node(node_id)
        return 0 if entry is None else len(entry.held())

    async def _known(self, node_id: str) -> NodeRecord:
        record = await self._hub.store.read(nodes.get, node_id)
        if record is None:
            raise NotFound("unknown_node", f"there is no node {node_id}; see: swarm-hub node list")
        return record

    def _described(self, record: NodeRecord) -> NodeDetails:
        node_id = record.peer_id
        entry = self._machine.node(node_id)
        ban = self._mesh.bans.of(node_id)
        drain_reason = self._drains.reason(node_id)
        offer = self._offers.get(node_id)
        standing = self._trust.of(node_id)
        if ban is not None:
            state = "banned"
        elif entry is None:
            state = "pending" if record.admission == "pending" else "down"
        elif drain_reason is None:
            state = "up"
        else:
            state = "draining" if entry.held() else "drained"
        return {
            "node_id": node_id,
            "name": record.name,
            "state": state,
            "slots": None if offer is None else self._slots(node_id, offer),
            "roles": [] if offer is None else sorted(offer.roles),
            "version": None if offer is None else offer.version,
            "labels": dict(sorted(self._labels_of(node_id, offer))),
            "assignments": self._n_held(node_id),
            "refuses": self._refusals.get(node_id),
            "rtt_ms": _milliseconds(self._rtt_s(node_id)),
            "kid": record.kid,
            "first_seen": isoformat(record.first_seen),
            "last_seen": isoformat(record.last_seen),
            "ban_reason": None if ban is None else ban.reason,
            "ban_until": None if ban is None or ban.until is None else isoformat(ban.until),
            "drain_reason": drain_reason,
            "trust": {
                "owner": standing.owner or None,
                "agreements": standing.agreements,
                "contradictions": standing.contradictions,
                "trusted": is_trusted(
                    standing.agreements, standing.contradictions, wary=self._machine.wary
                ),
            },
            "quarantines": []
            if entry is None
            else _quarantines(entry, self._hub.clock.monotonic()),
            "shards_done": 0 if entry is None else entry.n_results,
            "speeds": [
                {"module": each.program, "items_per_s": each.rate, "shard_s": each.shard_s}
                for each in (
                    self._trust.speeds(node_id) if entry is None else entry.speeds.values()
                )
            ],
            "telemetry": self._telemetry.of(node_id).to_wire(),
        }

    def _on_connected(self, link: NodeLink, name: str, offer: WorkerOffer) -> None:
        node_id = link.node_id
        self._offers[node_id], self._names[node_id] = offer, name
        self._dispatcher.event(NewEvent(EventType.NODE_UP, {"node_id": node_id, "name": name}))
        # Comes before its work is sent again: of that it gives back what has not begun.
        self._drains.greet(node_id)
        if self._trust.knows(node_id):
            self._changed(node_id)
        # A new node gets no work before its owner is known, since each owner has one vote.
        self._hub.tasks.spawn(self._learn(node_id), "read the owner of a node")

    async def _learn(self, node_id: str) -> None:
        await self._trust.learn(node_id)
        self._changed(node_id)

    async def _refresh_standing(self) -> None:
        for node_id in await self._trust.refresh():
            self._dispatcher.standing_changed(node_id, self._trust.of(node_id))
            self._changed(node_id)

    def _on_disconnected(self, node_id: str, reason: str) -> None:
        del self._offers[node_id]
        name = self._names.pop(node_id)
        if self._held_back is not None:
            # At a stop it is this gateway that leaves; the nodes keep what they have.
            return
        self._losses.lost(node_id, name)
        self._takes_work_again(node_id)
        self._dispatcher.event(
            NewEvent(EventType.NODE_DOWN, {"node_id": node_id, "reason": reason})
        )
        self._dispatcher.node_lost(node_id, reason)

    def _on_said(self, words: NodeWords) -> None:
        if not words.refusals:
            return
        for reason in words.refusals:
            if reason is None:
                self._takes_work_again(words.node_id)
            else:
                self._refusals[words.node_id] = reason
                self._before.setdefault(words.node_id, self._machine.job_ids())
        self._finishing.discard(words.node_id)
        if words.finishing and words.node_id in self._refusals:
            self._finishing.add(words.node_id)
        self._dispatcher.keep(words.writes)
        self._changed(words.node_id)

    def _takes_work_again(self, node_id: str) -> None:
        self._refusals.pop(node_id, None)
        self._before.pop(node_id, None)
        self._finishing.discard(node_id)

    def _on_telemetry(self, news: NodeTelemetry) -> None:
        self._changed(news.peer_id)

    def _repairs(self) -> "Iterable[Repair]":
        from swarm_hub.components.gateway.nodes.repairs import of_nodes

        return of_nodes(
            self._losses,
            self._names,
            self._refusals,
            self._channel.public_key,
            lambda node_id: (
                self._drains.reason(node_id) is not None or self._mesh.is_banned(node_id)
            ),
            self.drain,
        )

    def _slots(self, node_id: str, offer: WorkerOffer) -> int:
        """Return how many shards a node runs at once, which it may have changed since its offer."""
        return self._telemetry.of(node_id).slots or offer.slots

    def _labels_of(self, node_id: str, offer: WorkerOffer | None) -> frozenset[tuple[str, str]]:
        return self._labels.beside(node_id, frozenset() if offer is None else offer.labels)

    def _rtt_s(self, node_id: str) -> float | None:
        link = self._links.get(node_id)
        return None if link is None else link.rtt_s

    def _changed(self, node_id: str) -> None:
        offer = self._offers.get(node_id)
        if offer is None:
            return
        standing = self._trust.of(node_id)
        refusal = self._refusals.get(node_id)
        refuses = self._held_back or self._drains.reason(node_id)
        limits = None
        if refuses is None and refusal is not None and node_id in self._finishing:
            limits = JobLimits(self._before[node_id], refusal)
        else:
            refuses = refuses or refusal
        self._dispatcher.node_changed(
            NodeChange(
                node_id,
                self._slots(node_id, offer),
                self._telemetry.of(node_id),
                refuses,
                self._trust.owner(node_id),
                labels=self._labels_of(node_id, offer),
                agreements=standing.agreements,
                contradictions=standing.contradictions,
                memory_bytes=offer.memory_bytes,
                rtt_s=self._rtt_s(node_id),
                features=offer.features,
                limits=limits,
                quarantines=self._trust.quarantines(node_id),
                wall_time_s=offer.wall_time_s,
                speeds=self._trust.speeds(node_id),
            )
        )


def _quarantines(entry: NodeEntry, now: float) -> list[Quarantine]:
    """Return the modules of which a node gets no work, for how many seconds and why."""
    return [
        {"module": program, "for_s": round(faults.until - now, 1), "reason": faults.text}
        for program, faults in entry.faults.items()
        if entry.quarantined(program, now) is not None
    ]


def _kind(change: NodeChange) -> NodeKind:
    told = change.telemetry.runtimes or {}
    return NodeKind(
        slots=0,
        idle=0,
        features=change.features,
        runtimes=frozenset(sha for sha, said in told.items() if said == READY),
        labels=change.labels,
        memory_bytes=change.memory_bytes,
        wall_time_s=change.wall_time_s,
    )


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)
