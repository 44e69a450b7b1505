"""Inbox → sandbox → outbox: each step is on disk before the next one tells anybody."""

import asyncio
import functools
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from swarm_hub.components.mesh import Hello, Mesh, PeerUp, Readable
from swarm_hub.components.sandbox import (
    OK,
    Call,
    Limits,
    Outcome,
    SandboxService,
)
from swarm_hub.components.signer import Batch, SignedPost
from swarm_hub.components.worker.outbox import Outbox
from swarm_hub.const import INLINE_MAX_BYTES
from swarm_hub.core import Hub
from swarm_hub.exceptions import HubError, MeshError, StoreError
from swarm_hub.models import messages
from swarm_hub.models.call import ModuleCall
from swarm_hub.models.messages import Assign, Result
from swarm_hub.storage import Write, inbox
from swarm_hub.storage.inbox import InboxEntry, OutboxEntry
from swarm_hub.util.hashing import sha256_hex

_LOGGER = logging.getLogger(__name__)

# Enough callers at the sandbox's door that it can hand small shards to a child in batches.
_RUNNERS_PER_SLOT: Final = 8
# An ACK changes nothing at the gateway but a word in a status, so it may wait for a result whose
# envelope it can share; one of its own costs both sides half a millisecond of CPU.
_ACK_WITHIN_S: Final = 0.02
_WRITE_WITHIN_S: Final = 0.1
_UNTRUSTED: Final = "this gateway's key is not in the worker's signer: trust"
# Assignments held at once; a gateway that sends more gets them back.
_HELD_MAX: Final = 8192


@dataclass(frozen=True, slots=True)
class _Origin:
    """Who waits for an assignment, and in which store."""

    gateway: str
    store_id: str


class Desk:
    """What this worker accepted, runs and still has to deliver."""

    def __init__(
        self, hub: Hub, mesh: Mesh, post: SignedPost, service: SandboxService, slots: int
    ) -> None:
        self._hub = hub
        self._mesh = mesh
        self._post = post
        self._service = service
        # The shards of a job share one call text; it is parsed once for all of them.
        self._parsed = functools.lru_cache(maxsize=64)(self._parse)
        self._slots = slots
        self._queue: asyncio.Queue[InboxEntry] = asyncio.Queue()
        self._held: dict[str, _Origin] = {}
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._unwanted: set[str] = set()
        self._outbox = Outbox(hub, mesh, post)
        self._finished: list[OutboxEntry] = []
        self._finished_writes: list[Write] = []
        self._wake = asyncio.Event()
        # source → why it keeps this worker from taking work
        self._refusing: dict[str, str] = {}
        self._stopping = False
        post.on((messages.ASSIGN, messages.CANCEL, messages.RESULT_ACK), self._on_batch)
        mesh.serve_blobs(self._serve)
        hub.bus.listen(PeerUp, self._on_peer_up)

    async def start(self) -> None:
        """Take up what the last life left: run the inbox again, deliver the outbox."""
        for entry in await self._hub.store.read(inbox.open_entries):
            self._held[entry.assignment_id] = _Origin(entry.gateway, entry.store_id)
            self._queue.put_nowait(entry)
        await self._outbox.load()
        if self._held or self._outbox:
            _LOGGER.info(
                "Resuming %d assignments, delivering %d results",
                len(self._held),
                len(self._outbox),
            )
        for number in range(self._slots * _RUNNERS_PER_SLOT):
            self._hub.tasks.supervise(self._run_queue, f"runner {number}")
        self._hub.tasks.supervise(self._finish_loop, "worker outbox")
        self._outbox.start()
        # The first shard should not wait for a child to start.
        self._hub.tasks.spawn(self._service.sandbox.warm(), "sandbox warm-up")

    async def stop(self) -> None:
        """Tell the gateways that this worker takes no more work."""
        self.refuse("hub", "the hub is stopping")
        self._stopping = True

    def refuse(self, source: str, reason: str | None) -> None:
        """Take no new work and say why; with None `source` no longer minds."""
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
                self._post.post(peer_id, messages.DRAIN, {"reason": self._refusal_for(hello)})

    @property
    def _refusal(self) -> str | None:
        return ", ".join(self._refusing[source] for source in sorted(self._refusing)) or None

    def _on_batch(self, batch: Batch) -> None:
        if not batch.trusted:
            _LOGGER.warning("Refused work from %s: its key is not in signer: trust", batch.peer_id)
            offered = [Assign.from_wire(fields) for fields in batch.of(messages.ASSIGN)]
            self._nack(
                batch.peer_id,
                [shard.assignment_id for assign in offered for shard in assign.shards],
                _UNTRUSTED,
            )
            return
        for fields in batch.of(messages.RESULT_ACK):
            self._on_delivered(messages.ids(fields))
        for fields in batch.of(messages.CANCEL):
            self._on_cancel(batch.peer_id, messages.ids(fields))
        assigns = [Assign.from_wire(fields) for fields in batch.of(messages.ASSIGN)]
        if assigns:
            self._hub.tasks.spawn(self._accept(batch, assigns), "accept")
        else:
            self._write_soon(batch.writes)

    async def _accept(self, batch: Batch, assigns: list[Assign]) -> None:
        """Write the inbox, then ACK, then run (DESIGN, section 6)."""
        offered = [shard.assignment_id for assign in assigns for shard in assign.shards]
        if self._refusal is not None or len(self._held) + len(offered) > _HELD_MAX:
            self._nack(batch.peer_id, offered, self._refusal or "too many assignments held")
            return
        origin = _Origin(batch.peer_id, self._mesh.store_of(batch.peer_id))
        foreign = [held for held in offered if not self._is_of(held, origin)]
        if foreign:
            self._nack(batch.peer_id, foreign, "another gateway gave out this assignment")
            offered = [held for held in offered if held not in foreign]
        known = [held for held in offered if held in self._held or held in self._outbox]
        fresh = [] if batch.replayed else self._fresh(origin, assigns, {*known, *foreign})
        self._held.update((entry.assignment_id, origin) for entry in fresh)
        try:
            await self._hub.store.commit([*batch.writes, inbox.accept(fresh)])
        except StoreError as error:
            for entry in fresh:
                self._held.pop(entry.assignment_id, None)
            _LOGGER.warning("Can't keep %d assignments: %s", len(fresh), error)
            self._nack(batch.peer_id, offered, f"its store failed: {error}")
            return
        for entry in fresh:
            self._queue.put_nowait(entry)
        self._take_over(known, origin)
        self._post.post(batch.peer_id, messages.ACK, {"ids": offered}, within_s=_ACK_WITHIN_S)

    def _is_of(self, held: str, origin: _Origin) -> bool:
        """Whether a gateway may speak of an assignment: it is new, its own or of its store."""
        if held in self._held:
            before = self._held[held]
        elif held in self._outbox:
            before = _Origin(*self._outbox.origin(held))
        else:
            return True
        same_store = origin.store_id != "" and before.store_id == origin.store_id
        return before.gateway == origin.gateway or same_store

    def _take_over(self, known: list[str], origin: _Origin) -> None:
        """Answer to the gateway that has taken a job over from another of its store."""
        running = [held for held in known if held in self._held and self._held[held] != origin]
        self._held.update((held, origin) for held in running)
        writes = inbox.hand_over(running, origin.gateway) if running else []
        done = [
            held
            for held in known
            if held in self._outbox and self._outbox.origin(held)[0] != origin.gateway
        ]
        self._write_soon([*writes, *self._outbox.hand_over(done, origin.gateway)])

    def _fresh(self, origin: _Origin, assigns: list[Assign], known: set[str]) -> list[InboxEntry]:
        now = self._hub.clock.time()
        entries = []
        for assign in assigns:
            call = json.dumps(
                {"call": assign.call.to_plain(), "module_bytes": assign.module_bytes},
                separators=(",", ":"),
            )
            entries += [
                InboxEntry(
                    shard.assignment_id, origin.gateway, call, shard.input_sha, shard.size_bytes,
                    shard.data, now, origin.store_id,
                )
                for shard in assign.shards
                if shard.assignment_id not in known
            ]  # fmt: skip
        return entries

    async def _run_queue(self) -> None:
        runner = asyncio.current_task()
        assert runner is not None
        while True:
            entry = await self._queue.get()
            held = entry.assignment_id
            self._running[held] = runner
            try:
                if held not in self._unwanted:
                    await self._run(entry)
            except asyncio.CancelledError:
                if held not in self._unwanted:
                    raise
                # Only this assignment was cancelled; the runner goes on with the next.
                runner.uncancel()
            finally:
                del self._running[held]
                self._unwanted.discard(held)

    async def _run(self, entry: InboxEntry) -> None:
        call, module_bytes = self._parsed(entry.call)
        try:
            data = entry.input
            if data is None:
                data = await self._mesh.fetch(
                    self._gateway_of(entry), entry.input_sha, entry.size_bytes
                )
        except MeshError as error:
            self._give_back(entry, f"its input could not be fetched: {error}")
            return

        async def load_wasm() -> bytes:
            return await self._module(self._gateway_of(entry), call.module_sha, module_bytes)

        try:
            outcome = await self._service.sandbox.run(call, data, load_wasm)
            await self._finish(entry, outcome)
        except (HubError, OSError) as error:
            # The module can't be fetched or read, the sandbox is stopping, the disk is full.
            self._give_back(entry, f"it could not be run: {error}")

    def _parse(self, text: str) -> tuple[Call, int]:
        """Return a stored call, bounded by this worker's own limits, and the module's size."""
        plain = json.loads(text)
        asked, own = ModuleCall.from_plain(plain["call"]), self._service.limits
        limits = Limits(
            memory_bytes=min(asked.memory_bytes or own.memory_bytes, own.memory_bytes),
            wall_time_s=min(asked.wall_time_s or own.wall_time_s, own.wall_time_s),
            output_bytes=min(asked.output_bytes or own.output_bytes, own.output_bytes),
            fuel=asked.fuel,
        )
        call = Call(
            asked.module_sha, asked.abi, asked.entry, limits, asked.args, asked.env,
            asked.deterministic,
        )  # fmt: skip
        return call, plain["module_bytes"]

    async def _module(self, gateway: str, sha: str, size_bytes: int) -> bytes:
        """Return a module's bytes, fetched once and kept as a cache."""
        if (known := await self._hub.store.blobs.get(sha)) is not None:
            return known
        if size_bytes > self._service.module_bytes_max:
            raise MeshError(f"the module is larger than {self._service.module_bytes_max} bytes")
        wasm = await self._mesh.fetch(gateway, sha, size_bytes)
        _, row = await self._hub.store.blobs.put(wasm, self._hub.clock.time(), durable=False)
        await self._hub.store.commit([row])
        return wasm

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
            self._unwanted.difference_update(each.result.assignment_id for each in finished)
            finished = [each for each in finished if each.result.assignment_id in self._held]
            await self._hub.store.commit_when_possible([*inbox.finish(finished), *writes])
            for entry in finished:
                self._held.pop(entry.result.assignment_id, None)
            self._outbox.deliver(finished)

    def _write_soon(self, writes: list[Write]) -> None:
        """Write what is not urgent with the next results, or in a moment."""
        if writes and not self._finished_writes:
            asyncio.get_running_loop().call_later(_WRITE_WITHIN_S, self._wake.set)
        self._finished_writes += writes

    def _give_back(self, entry: InboxEntry, reason: str) -> None:
        gateway = self._gateway_of(entry)
        self._held.pop(entry.assignment_id, None)
        self._hub.store.note(inbox.drop([entry.assignment_id]))
        self._nack(gateway, [entry.assignment_id], reason)

    def _gateway_of(self, entry: InboxEntry) -> str:
        """Return who waits for an assignment: its gateway, or the one that took it over."""
        origin = self._held.get(entry.assignment_id)
        return entry.gateway if origin is None else origin.gateway

    def _nack(self, gateway: str, assignment_ids: list[str], reason: str) -> None:
        if assignment_ids:
            self._post.post(gateway, messages.NACK, {"ids": assignment_ids, "reason": reason})

    def _on_delivered(self, assignment_ids: list[str]) -> None:
        if known := self._outbox.drop(assignment_ids):
            self._write_soon([inbox.delivered(known)])

    def _on_cancel(self, peer_id: str, assignment_ids: list[str]) -> None:
        origin = _Origin(peer_id, self._mesh.store_of(peer_id))
        dropped = [held for held in assignment_ids if self._is_of(held, origin)]
        self._outbox.drop(dropped)
        for held in dropped:
            if self._held.pop(held, None) is not None:
                self._unwanted.add(held)
            if held in self._running:
                self._running[held].cancel()
        self._hub.store.note(inbox.drop(dropped))

    def _on_peer_up(self, up: PeerUp) -> None:
        if "gateway" not in up.hello.capabilities:
            return
        if (reason := self._refusal_for(up.hello)) is not None:
            self._post.post(up.peer_id, messages.DRAIN, {"reason": reason})
        # The gateway answers with `cancel` for what it withdrew while this worker was away.
        held = [held for held, origin in self._held.items() if origin.gateway == up.peer_id]
        if held:
            self._post.post(up.peer_id, messages.ACK, {"ids": held})

    def _refusal_for(self, gateway: Hello) -> str | None:
        trusted = gateway.kid is not None and self._post.trusts(gateway.kid)
        return self._refusal if trusted else _UNTRUSTED

    @asynccontextmanager
    async def _serve(self, peer_id: str, sha: str) -> AsyncIterator[Readable | None]:
        """Give a gateway the body of a large result of its own."""
        if not self._outbox.serves(peer_id, sha):
            yield None
            return
        async with self._hub.store.blobs.reading(sha) as result:
            yield result
