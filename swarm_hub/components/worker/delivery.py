"""Results on their way: each is sent until its gateway, or another on its store, has it on disk."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from swarm_hub.components.mesh import Hello, Mesh, PeerDown, PeerUp, Readable
from swarm_hub.components.signer import EnvelopeChannel
from swarm_hub.components.worker.assignments import Origin
from swarm_hub.core import Hub
from swarm_hub.models import messages
from swarm_hub.storage import Write
from swarm_hub.storage.queries import inbox
from swarm_hub.storage.queries.inbox import OutboxEntry
from swarm_hub.util.back_off import back_off_s, jittered_s

_RESEND_FIRST_S: Final = 5.0
_RESEND_MAX_S: Final = 60.0
# Between two rounds of sending again.
_PAUSE_S: Final = 1.0
# Workers that were cut off together should not all retry at once.
_JITTER: Final = (0.75, 1.25)
_RESULTS_A_LOOK: Final = 64
# What is said again is signed together.
_AGAIN: Final = "again"


@dataclass(slots=True)
class _Waiting:
    entry: OutboxEntry
    # Whether the store has, or is about to have, a row of it, and whether that is on disk.
    has_row: bool = True
    on_disk: bool = True
    tries: int = 0
    due_at: float = 0.0
    # Whether this run has not said it yet: what is said again is signed, whether asked for or not.
    is_new: bool = False


class Delivery:
    """What this worker has finished and no gateway has acknowledged yet.

    `settled` is set whenever one is done with.
    """

    def __init__(
        self, hub: Hub, mesh: Mesh, channel: EnvelopeChannel, settled: asyncio.Event
    ) -> None:
        self._hub = hub
        self._mesh = mesh
        self._channel = channel
        self._settled = settled
        self._waiting: dict[str, _Waiting] = {}
        # When to look for results to send again, and what brings that nearer.
        self._looks_at = math.inf
        self._nearer = asyncio.Event()
        mesh.serve_blobs(self._serve)
        hub.bus.listen(PeerUp, self._on_peer_up)
        hub.bus.listen(PeerDown, self._on_peer_down)

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, assignment_id: object) -> bool:
        return assignment_id in self._waiting

    def is_underway(self) -> bool:
        """Whether a result was sent to a connected gateway that has not answered yet."""
        peers = self._mesh.peers()
        return any(self._takers(waiting.entry, peers) for waiting in self._waiting.values())

    async def load(self) -> None:
        """Load what the last run left on disk."""
        for entry in await self._hub.store.read(inbox.undelivered):
            self._waiting[entry.result.assignment_id] = _Waiting(entry)

    def start(self) -> None:
        """Send again what was not acknowledged, with a growing pause."""
        self._nearer = self._hub.tasks.when_due(
            self._left_s, self._resend, "worker resend", pause_s=_PAUSE_S
        )

    def deliver(self, entries: Iterable[OutboxEntry], *, on_disk: bool = True) -> None:
        """Send results for as long as it takes; `on_disk` says whether they have rows."""
        new = [_Waiting(entry, on_disk, on_disk, is_new=True) for entry in entries]
        self._waiting.update((each.entry.result.assignment_id, each) for each in new)
        self._send(new)

    def is_on_disk(self, assignment_id: str) -> bool:
        """Whether a result on its way survives the end of this process."""
        waiting = self._waiting.get(assignment_id)
        return waiting is not None and waiting.on_disk

    def unwritten(self, assignment_ids: Iterable[str] | None = None) -> list[str]:
        """Return which results on their way, of these or of all, have no row."""
        known = self._waiting if assignment_ids is None else assignment_ids
        return [
            assignment_id
            for assignment_id in known
            if assignment_id in self._waiting and not self._waiting[assignment_id].has_row
        ]

    def write_down(self, assignment_ids: Iterable[str]) -> list[OutboxEntry]:
        """Return what of these still waits; the caller writes it down at once."""
        found = []
        for assignment_id in assignment_ids:
            if (waiting := self._waiting.get(assignment_id)) is not None:
                waiting.has_row = True
                found.append(waiting.entry)
        return found

    def written(self, assignment_ids: Iterable[str]) -> None:
        """Take note that these are on disk."""
        for assignment_id in assignment_ids:
            if (waiting := self._waiting.get(assignment_id)) is not None:
                waiting.on_disk = True

    def drop(self, assignment_ids: Iterable[str]) -> list[str]:
        """Forget results that were acknowledged or are unwanted; returns those that have rows."""
        dropped = [
            assignment_id
            for assignment_id in assignment_ids
            if (waiting := self._waiting.pop(assignment_id, None)) and waiting.has_row
        ]
        self._settled.set()
        return dropped

    def origin(self, assignment_id: str) -> Origin | None:
        """Return who waits for a result; None for one that is not here."""
        if (waiting := self._waiting.get(assignment_id)) is None:
            return None
        return Origin(waiting.entry.gateway, waiting.entry.store_id)

    def hand_over(self, assignment_ids: Iterable[str], gateway: str) -> list[Write]:
        """Deliver to the gateway that took the jobs over; returns the write that records it."""
        moved = [
            assignment_id
            for assignment_id in assignment_ids
            if assignment_id in self._waiting
            and self._waiting[assignment_id].entry.gateway != gateway
        ]
        for waiting in (self._waiting[assignment_id] for assignment_id in moved):
            waiting.entry = replace(waiting.entry, gateway=gateway)
            waiting.tries = 0
        self._send(self._waiting[assignment_id] for assignment_id in moved)
        rows = [assignment_id for assignment_id in moved if self._waiting[assignment_id].has_row]
        return inbox.hand_over(rows, gateway) if rows else []

    @asynccontextmanager
    async def _serve(self, peer_id: str, sha: str) -> AsyncIterator[Readable | None]:
        """Give a gateway the body of a large result of its own."""
        peers = self._mesh.peers()
        if not any(
            waiting.entry.result.sha == sha and peer_id in self._takers(waiting.entry, peers)
            for waiting in self._waiting.values()
        ):
            yield None
            return
        async with self._hub.store.blobs.reading(sha) as result:
            yield result

    def _left_s(self) -> float | None:
        """Return how long until a result is to be sent again; None without any."""
        self._looks_at = min((each.due_at for each in self._waiting.values()), default=math.inf)
        return self._looks_at - self._hub.clock.monotonic() if self._waiting else None

    async def _resend(self) -> None:
        now = self._hub.clock.monotonic()
        due = [waiting for waiting in self._waiting.values() if waiting.due_at <= now]
        self._send(due[:_RESULTS_A_LOOK])

    def _send(self, results: Iterable[_Waiting]) -> None:
        now, peers = self._hub.clock.monotonic(), self._mesh.peers()
        for waiting in results:
            if takers := self._takers(waiting.entry, peers):
                # A gateway that does not answer may be too busy or the wrong one; the next try asks
                # another.
                gateway = takers[waiting.tries % len(takers)]
                group = waiting.entry.apart
                if group is None and not waiting.is_new:
                    group = _AGAIN
                self._channel.send(
                    gateway, messages.RESULT, waiting.entry.result.to_wire(), apart=group
                )
                waiting.tries += 1
                waiting.is_new = False
            pause_s = back_off_s(_RESEND_FIRST_S, max(0, waiting.tries - 1), _RESEND_MAX_S)
            waiting.due_at = now + jittered_s(pause_s, *_JITTER)
            if waiting.due_at < self._looks_at:
                self._looks_at = waiting.due_at
                self._nearer.set()

    def _takers(self, entry: OutboxEntry, peers: dict[str, Hello]) -> list[str]:
        """Return who may take a result: its own gateway first, then others on its store."""
        others = [
            peer_id
            for peer_id, hello in (sorted(peers.items()) if len(peers) > 1 else peers.items())
            if peer_id != entry.gateway
            and entry.store_id
            and hello.db_id == entry.store_id
            and hello.public_key is not None
            and self._channel.trusts(hello.public_key)
        ]
        return [entry.gateway, *others] if entry.gateway in peers else others

    def _on_peer_up(self, up: PeerUp) -> None:
        """Deliver at once what waited for this gateway, or for any of its store."""
        waited = [
            waiting
            for waiting in self._waiting.values()
            if up.peer_id == waiting.entry.gateway or up.hello.db_id == waiting.entry.store_id
        ]
        for waiting in waited:
            waiting.tries = 0
        self._send(waited)

    def _on_peer_down(self, down: PeerDown) -> None:
        """Ask another gateway of the store soon."""
        for waiting in self._waiting.values():
            if waiting.entry.gateway == down.peer_id:
                waiting.tries, waiting.due_at = 0, 0.0
                self._nearer.set()
