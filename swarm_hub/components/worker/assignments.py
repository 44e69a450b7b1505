"""Inbox → sandbox → outbox: each step is on disk before the next one tells anybody."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from swarm_hub.components.mesh import Hello, Mesh, PeerDown, PeerUp, Readable
from swarm_hub.components.sandbox import OK, Outcome, SandboxService
from swarm_hub.components.signer import Batch, EnvelopeChannel
from swarm_hub.components.worker.delivery import Delivery
from swarm_hub.components.worker.executor import Executor
from swarm_hub.components.worker.offers import inbox_entries, read_offers
from swarm_hub.const import INLINE_MAX_BYTES
from swarm_hub.core import Hub
from swarm_hub.exceptions import StoreError
from swarm_hub.models import messages
from swarm_hub.models.messages import Assign, Nack, Result
from swarm_hub.storage import Write
from swarm_hub.storage.queries import inbox
from swarm_hub.storage.queries.inbox import InboxEntry, OutboxEntry
from swarm_hub.util.hashing import sha256_hex

_LOGGER = logging.getLogger(__name__)

# An ACK only changes a word in a status at the gateway, so it may wait to share a result's
# envelope; one of its own costs both sides half a millisecond of CPU.
_ACK_WITHIN_S: Final = 0.02
_WRITE_WITHIN_S: Final = 0.1
_UNTRUSTED: Final = "this gateway's key is not in the worker's signer: trust"
# How many assignments are held at once; a gateway that sends more gets them back.
_HELD_MAX: Final = 8192
_STOPPING: Final = "the hub is stopping"
# What is finished at a stop has this long to be stored and acknowledged.
DELIVER_WITHIN_S: Final = 2.0
# Ids in one message; a few thousand would exceed an envelope.
_IDS_MAX: Final = 2000


@dataclass(frozen=True, slots=True)
class _Origin:
    """Who waits for an assignment, and in which store."""

    gateway: str
    store_id: str


class Assignments:
    """What this worker accepted, is running and still has to deliver."""

    def __init__(
        self,
        hub: Hub,
        mesh: Mesh,
        post: EnvelopeChannel,
        service: SandboxService,
        slots: int,
        finish_within_s: float,
    ) -> None:
        self._hub = hub
        self._mesh = mesh
        self._post = post
        self._service = service
        self._slots = slots
        self._finish_within_s = finish_within_s
        self._held: dict[str, _Origin] = {}
        self._executor = Executor(
            hub, mesh, service, self._gateway_of, self._finish, self._give_back
        )
        self._delivery = Delivery(hub, mesh, post)
        self._finished: list[OutboxEntry] = []
        self._finished_writes: list[Write] = []
        self._wake = asyncio.Event()
        self._delivered = asyncio.Event()
        # source → why it keeps this worker from taking work
        self._refusing: dict[str, str] = {}
        # gateway → why it is draining this node
        self._drained: dict[str, str] = {}
        self._stopping = False
        kinds = (messages.ASSIGN, messages.CANCEL, messages.RESULT_ACK, messages.DRAIN)
        post.on(kinds, self._on_batch)
        mesh.serve_blobs(self._serve)
        hub.bus.listen(PeerUp, self._on_peer_up)
        hub.bus.listen(PeerDown, lambda _down: self._delivered.set())

    async def start(self) -> None:
        """Resume what the last run left: run the inbox again, deliver the outbox."""
        entries = await self._hub.store.read(inbox.open_entries)
        self._held.update(
            (entry.assignment_id, _Origin(entry.gateway, entry.store_id)) for entry in entries
        )
        self._executor.put(entries)
        await self._delivery.load()
        if self._held or self._delivery:
            _LOGGER.info(
                "Resuming %d assignments, delivering %d results",
                len(self._held),
                len(self._delivery),
            )
        self._executor.start(self._slots)
        self._hub.tasks.supervise(self._finish_loop, "worker outbox")
        self._delivery.start()
        # The first shard should not wait for a child to start.
        self._hub.tasks.spawn(self._service.sandbox.warm(), "sandbox warm-up")

    async def stop(self) -> None:
        """Take no more work, give back what has not begun, finish or give back the rest.

        Work from a gateway that isn't connected stays in the inbox for the next start.
        """
        self.refuse("hub", _STOPPING)
        self._stopping = True
        self._hand_back(self._executor.not_begun(), _STOPPING)
        await _within(self._finish_within_s, self._executor.until_idle())
        self._hand_back(self._executor.unfinished(), "it did not finish before the hub stopped")
        await _within(DELIVER_WITHIN_S, self._until_delivered())
        # The finish loop may no longer get to these.
        writes, self._finished_writes = self._finished_writes, []
        self._hub.store.note(writes)

    def refuse(self, source: str, reason: str | None) -> None:
        """Take no new work and say why; with None `source` no longer objects."""
        if reason == self._refusing.get(source) or self._stopping:
            return
        before = self._refusal
        if reason is None:
            self._refusing.pop(source, None)
        else:
            self._refusing[source] = reason
        if (now := self._refusal) == before:
            return
        _LOGGER.info("Taking work again" if now is None else f"Taking no work: {now}")
        for peer_id, hello in self._mesh.peers().items():
            if "gateway" in hello.capabilities:
                self._post.send(peer_id, messages.DRAIN, {"reason": self._refusal_for(hello)})

    @property
    def _refusal(self) -> str | None:
        return ", ".join(self._refusing[source] for source in sorted(self._refusing)) or None

    def _on_batch(self, batch: Batch) -> None:
        offers = read_offers(batch)
        if not batch.trusted:
            if offers:
                _LOGGER.warning(
                    "Refused work from %s: its key is not in signer: trust", batch.peer_id
                )
            self._nack(batch.peer_id, offers.assignment_ids(), _UNTRUSTED)
            return
        for delivered in batch.read(messages.RESULT_ACK, messages.ids):
            self._on_delivered(delivered)
        for cancelled in batch.read(messages.CANCEL, messages.ids):
            self._on_cancel(batch.peer_id, cancelled)
        for node, reason in batch.read(messages.DRAIN, messages.read_drain):
            # Without a node it comes from a worker and is meant for the gateway that this hub may
            # also be.
            if node == self._mesh.peer_id:
                self._on_drain(batch.peer_id, reason)
        for nack in offers.refused:
            self._refuse_offered(batch.peer_id, nack)
        if offers.assigns:
            self._hub.tasks.spawn(self._accept(batch, offers.assigns), "accept")
        else:
            self._write_soon(batch.writes)

    def _refuse_offered(self, gateway: str, nack: Nack) -> None:
        """Give back assignments that can't be taken as offered, except those already held."""
        held = [
            each
            for each in nack.assignment_ids
            if each not in self._held and each not in self._delivery
        ]
        if held:
            _LOGGER.warning("Gave back %d assignments: %s", len(held), nack.reason)
            self._nack(gateway, held, nack.reason, nack.lacks)

    async def _accept(self, batch: Batch, assigns: list[Assign]) -> None:
        """Write the inbox, then ACK, then run (DESIGN, section 6)."""
        gateway = batch.peer_id
        offered = [shard.assignment_id for assign in assigns for shard in assign.shards]
        origin = _Origin(gateway, self._mesh.store_of(gateway))
        foreign = [held for held in offered if not self._is_of(held, origin)]
        self._nack(gateway, foreign, "another gateway gave out this assignment")
        offered = [held for held in offered if held not in foreign]
        known = [held for held in offered if held in self._held or held in self._delivery]
        fresh = [] if batch.replayed else self._fresh(origin, assigns, {*known, *foreign})
        new = [entry.assignment_id for entry in fresh]
        refusal = self._refusal or self._drained.get(gateway)
        if refusal is None and len(self._held) + len(new) > _HELD_MAX:
            refusal = "too many assignments held"
        if refusal is not None:
            self._nack(gateway, new, refusal)
            offered, fresh, new = known, [], []
        self._held.update((held, origin) for held in new)
        try:
            await self._hub.store.commit([*batch.writes, inbox.accept(fresh)])
        except StoreError as error:
            for held in new:
                self._held.pop(held, None)
            _LOGGER.warning("Can't keep %d assignments: %s", len(fresh), error)
            self._nack(gateway, new, f"its store failed: {error}")
            return
        if self._stopping or gateway in self._drained:
            # The gateway was told so while these were on their way to the disk.
            self._hand_back(new, self._drained.get(gateway, _STOPPING))
            offered = [held for held in offered if held in self._held or held in self._delivery]
        if not self._stopping:
            self._executor.put(entry for entry in fresh if entry.assignment_id in self._held)
        self._take_over(known, origin)
        if offered:
            self._post.send(gateway, messages.ACK, {"ids": offered}, within_s=_ACK_WITHIN_S)

    def _is_of(self, held: str, origin: _Origin) -> bool:
        """Whether a gateway may decide on an assignment: it is new, its own or from its store."""
        if held in self._held:
            before = self._held[held]
        elif held in self._delivery:
            before = _Origin(*self._delivery.origin(held))
        else:
            return True
        same_store = origin.store_id != "" and before.store_id == origin.store_id
        return before.gateway == origin.gateway or same_store

    def _take_over(self, known: list[str], origin: _Origin) -> None:
        """Report to the gateway that took a job over from another on its store."""
        running = [held for held in known if held in self._held and self._held[held] != origin]
        self._held.update((held, origin) for held in running)
        writes = inbox.hand_over(running, origin.gateway) if running else []
        done = [
            held
            for held in known
            if held in self._delivery and self._delivery.origin(held)[0] != origin.gateway
        ]
        self._write_soon([*writes, *self._delivery.hand_over(done, origin.gateway)])

    def _fresh(self, origin: _Origin, assigns: list[Assign], known: set[str]) -> list[InboxEntry]:
        now = self._hub.clock.time()
        entries = inbox_entries(assigns, origin.gateway, origin.store_id, now)
        return [entry for entry in entries if entry.assignment_id not in known]

    async def _finish(self, entry: InboxEntry, outcome: Outcome) -> None:
        body: bytes | None = outcome.output if outcome.code == OK else b""
        size_bytes = len(body or b"")
        if body is not None and size_bytes > INLINE_MAX_BYTES:
            sha, row = await self._hub.store.blobs.put(body, self._hub.clock.time())
            self._finished_writes.append(row)
            body = None
        else:
            sha = sha256_hex(body or b"")
        result = Result(
            assignment_id=entry.assignment_id,
            code=outcome.code,
            text=outcome.text,
            input_sha=entry.input_sha,
            sha=sha,
            size_bytes=size_bytes,
            body=body,
            wall_s=outcome.wall_s,
            cpu_s=outcome.cpu_s,
            peak_memory_bytes=outcome.peak_memory_bytes,
            fuel=outcome.fuel,
        )
        self._finished.append(
            OutboxEntry(result, entry.gateway, self._hub.clock.time(), entry.store_id)
        )
        self._wake.set()

    async def _finish_loop(self) -> None:
        """Move finished assignments to the outbox, many in one transaction, and deliver them."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            finished, self._finished = self._finished, []
            writes, self._finished_writes = self._finished_writes, []
            finished = [each for each in finished if each.result.assignment_id in self._held]
            await self._hub.store.commit_when_possible([*inbox.finish(finished), *writes])
            for entry in finished:
                self._held.pop(entry.result.assignment_id, None)
            self._delivery.deliver(finished)
            self._delivered.set()

    async def _until_delivered(self) -> None:
        """Return once no connected gateway awaits a result and we await no acknowledgement."""
        while self._held_by_those_here() or self._delivery.is_underway():
            self._delivered.clear()
            await self._delivered.wait()

    def _held_by_those_here(self) -> bool:
        peers = self._mesh.peers()
        return any(origin.gateway in peers for origin in self._held.values())

    def _write_soon(self, writes: list[Write]) -> None:
        """Write what isn't urgent with the next results, or in a moment."""
        if writes and not self._finished_writes:
            asyncio.get_running_loop().call_later(_WRITE_WITHIN_S, self._wake.set)
        self._finished_writes += writes

    def _give_back(self, entry: InboxEntry, reason: str) -> None:
        gateway = self._gateway_of(entry)
        self._held.pop(entry.assignment_id, None)
        self._hub.store.note(inbox.drop([entry.assignment_id]))
        self._nack(gateway, [entry.assignment_id], reason)

    def _hand_back(self, assignment_ids: Collection[str], reason: str) -> None:
        """Give back assignments whose gateway is connected, and forget them."""
        self._executor.take_off(assignment_ids)
        peers = self._mesh.peers()
        returned: dict[str, list[str]] = defaultdict(list)
        for held in assignment_ids:
            origin = self._held.get(held)
            if origin is not None and origin.gateway in peers:
                returned[origin.gateway].append(held)
        for gateway, group in returned.items():
            for held in group:
                del self._held[held]
            self._hub.store.note(inbox.drop(group))
            self._nack(gateway, group, reason)
            _LOGGER.info("Gave back %d assignments: %s", len(group), reason)
        self._delivered.set()

    def _on_drain(self, gateway: str, reason: str | None) -> None:
        """Take no more from a gateway that drains this node, and give back what has not begun."""
        if reason is None:
            if self._drained.pop(gateway, None) is not None:
                _LOGGER.info("The gateway %s gives work again", gateway)
            return
        text = f"the gateway drains this node: {reason}"
        if self._drained.get(gateway) != text:
            _LOGGER.info("No more work from %s: %s", gateway, text)
        self._drained[gateway] = text
        self._hand_back(
            [held for held in self._executor.not_begun() if self._origin_is(held, gateway)], text
        )

    def _origin_is(self, held: str, gateway: str) -> bool:
        origin = self._held.get(held)
        return origin is not None and origin.gateway == gateway

    def _gateway_of(self, entry: InboxEntry) -> str:
        """Return who waits for an assignment: its gateway, or the one that took it over."""
        origin = self._held.get(entry.assignment_id)
        return entry.gateway if origin is None else origin.gateway

    def _nack(
        self,
        gateway: str,
        assignment_ids: Sequence[str],
        reason: str,
        lacks: frozenset[str] = frozenset(),
    ) -> None:
        for start in range(0, len(assignment_ids), _IDS_MAX):
            part = tuple(assignment_ids[start : start + _IDS_MAX])
            self._post.send(gateway, messages.NACK, Nack(part, reason, lacks).to_wire())

    def _on_delivered(self, assignment_ids: list[str]) -> None:
        if known := self._delivery.drop(assignment_ids):
            self._write_soon([inbox.delivered(known)])
        self._delivered.set()

    def _on_cancel(self, peer_id: str, assignment_ids: list[str]) -> None:
        origin = _Origin(peer_id, self._mesh.store_of(peer_id))
        dropped = [held for held in assignment_ids if self._is_of(held, origin)]
        self._delivery.drop(dropped)
        for held in dropped:
            self._held.pop(held, None)
        self._executor.take_off(dropped)
        self._hub.store.note(inbox.drop(dropped))
        self._delivered.set()

    def _on_peer_up(self, up: PeerUp) -> None:
        if "gateway" not in up.hello.capabilities:
            return
        # A gateway that still drains this node says so again.
        self._drained.pop(up.peer_id, None)
        if (reason := self._refusal_for(up.hello)) is not None:
            self._post.send(up.peer_id, messages.DRAIN, {"reason": reason})
        # The gateway answers with `cancel` for what it withdrew while this worker was away.
        held = [held for held, origin in self._held.items() if origin.gateway == up.peer_id]
        if held:
            self._post.send(up.peer_id, messages.ACK, {"ids": held})

    def _refusal_for(self, gateway: Hello) -> str | None:
        trusted = gateway.kid is not None and self._post.trusts(gateway.kid)
        return self._refusal if trusted else _UNTRUSTED

    @asynccontextmanager
    async def _serve(self, peer_id: str, sha: str) -> AsyncIterator[Readable | None]:
        """Give a gateway the body of a large result of its own."""
        if not self._delivery.serves(peer_id, sha):
            yield None
            return
        async with self._hub.store.blobs.reading(sha) as result:
            yield result


async def _within(timeout_s: float, waiting: Coroutine[Any, Any, None]) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await waiting
    except TimeoutError:
        pass
