"""The inbox: which assignments this device accepted, and who waits for each of them."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from swarm_hub.components.signer import EnvelopeChannel
from swarm_hub.core import Hub
from swarm_hub.models import messages
from swarm_hub.models.messages import Nack
from swarm_hub.storage import Write
from swarm_hub.storage.queries import inbox
from swarm_hub.storage.queries.inbox import InboxEntry

# Ids in one message; a few thousand would exceed an envelope.
_IDS_MAX: Final = 2000


@dataclass(frozen=True, slots=True)
class Origin:
    """Who waits for an assignment, and in which store."""

    gateway: str
    store_id: str


class Assignments:
    """What this worker accepted and has not finished.

    `settled` is set whenever one is done with.
    """

    def __init__(self, hub: Hub, channel: EnvelopeChannel, settled: asyncio.Event) -> None:
        self._hub = hub
        self._channel = channel
        self._settled = settled
        self._held: dict[str, Origin] = {}
        # Of these, what has no row in the inbox and no outcome yet, and whose row is on disk.
        self._unwritten: dict[str, InboxEntry] = {}
        self._on_disk: set[str] = set()

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, assignment_id: object) -> bool:
        return assignment_id in self._held

    async def load(self) -> list[InboxEntry]:
        """Take up what the last life left on disk, and return it."""
        entries = await self._hub.store.read(inbox.open_entries)
        self._held.update(
            (entry.assignment_id, Origin(entry.gateway, entry.store_id)) for entry in entries
        )
        self._on_disk.update(self._held)
        return entries

    def origin(self, assignment_id: str) -> Origin | None:
        """Return who waits for an assignment; None for one that is not here."""
        return self._held.get(assignment_id)

    def gateway_of(self, entry: InboxEntry) -> str:
        """Return who waits for an assignment: its gateway, or the one that took it over."""
        origin = self._held.get(entry.assignment_id)
        return entry.gateway if origin is None else origin.gateway

    def given_out_by(self, gateway: str) -> list[str]:
        """Return what a gateway waits for."""
        return [
            assignment_id
            for assignment_id, origin in self._held.items()
            if origin.gateway == gateway
        ]

    def gateways(self) -> set[str]:
        """Return all who wait for anything."""
        return {origin.gateway for origin in self._held.values()}

    def put(self, entries: Iterable[InboxEntry], origin: Origin) -> None:
        """Hold these from now on; nothing of them is on disk yet."""
        for entry in entries:
            self._held[entry.assignment_id] = origin
            self._unwritten[entry.assignment_id] = entry

    def unwritten(self, assignment_ids: Iterable[str]) -> list[InboxEntry]:
        """Return what of these has no outcome and no row yet; the caller writes it down at once."""
        found = []
        for assignment_id in assignment_ids:
            if (entry := self._unwritten.pop(assignment_id, None)) is not None:
                gateway = self.gateway_of(entry)
                found.append(entry if entry.gateway == gateway else replace(entry, gateway=gateway))
        return found

    def has_unwritten(self, assignment_ids: Iterable[str]) -> bool:
        """Whether any of these has no outcome and no row yet."""
        return not self._unwritten.keys().isdisjoint(assignment_ids)

    def written(self, entries: Iterable[InboxEntry]) -> dict[str, list[str]]:
        """Take note that these are on disk; returns what of them each gateway still waits for."""
        waiting: dict[str, list[str]] = defaultdict(list)
        for entry in entries:
            if (origin := self._held.get(entry.assignment_id)) is not None:
                self._on_disk.add(entry.assignment_id)
                waiting[origin.gateway].append(entry.assignment_id)
        return waiting

    def is_on_disk(self, assignment_id: str) -> bool:
        """Whether an assignment survives the end of this process."""
        return assignment_id in self._on_disk

    def computed(self, assignment_id: str) -> bool:
        """Take note of an outcome; returns whether the inbox has, or will have, a row of it."""
        return self._unwritten.pop(assignment_id, None) is None

    def forget(self, assignment_ids: Iterable[str]) -> None:
        """Hold these no more; what is on disk is the caller's."""
        for assignment_id in assignment_ids:
            self._held.pop(assignment_id, None)
            self._unwritten.pop(assignment_id, None)
            self._on_disk.discard(assignment_id)
        self._settled.set()

    def hand_over(self, assignment_ids: Iterable[str], origin: Origin) -> list[Write]:
        """Answer to the gateway that took the jobs over; returns the note of it."""
        moved = [
            assignment_id
            for assignment_id in assignment_ids
            if assignment_id in self._held and self._held[assignment_id] != origin
        ]
        self._held.update((assignment_id, origin) for assignment_id in moved)
        return inbox.hand_over(moved, origin.gateway) if moved else []

    def give_back(self, entry: InboxEntry, reason: str) -> None:
        """Return one that can't be run here to whoever waits for it."""
        gateway = self.gateway_of(entry)
        self.forget([entry.assignment_id])
        self._hub.store.note(inbox.drop([entry.assignment_id]))
        self.nack(gateway, [entry.assignment_id], reason)

    def nack(
        self,
        gateway: str,
        assignment_ids: Sequence[str],
        reason: str,
        lacks: frozenset[str] = frozenset(),
    ) -> None:
        """Say that these won't be done here, and why."""
        for start in range(0, len(assignment_ids), _IDS_MAX):
            part = tuple(assignment_ids[start : start + _IDS_MAX])
            self._channel.send(gateway, messages.NACK, Nack(part, reason, lacks).to_wire())
