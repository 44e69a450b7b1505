"""Outcomes on their way to whoever waits for them, and to the disk.

What this worker has ACKed is on disk at any time: its outcome takes the place of its inbox row
before it is sent. What took a moment only was never ACKed, and is sent at once: if this process
dies before the gateway has it, the gateway gives it to others, as it would have a little earlier.
It is written down if the gateway does not take it soon (docs/adr/081-late-outbox.md).
"""

import asyncio
import functools
import json
from typing import Final

from swarm_hub.components.sandbox import OK, CallResult
from swarm_hub.components.worker.assignments import Assignments
from swarm_hub.components.worker.delivery import Delivery
from swarm_hub.const import INLINE_MAX_BYTES
from swarm_hub.core import Hub
from swarm_hub.models.call import ModuleCall
from swarm_hub.models.messages import Result
from swarm_hub.storage import Write
from swarm_hub.storage.queries import inbox
from swarm_hub.storage.queries.inbox import InboxEntry, OutboxEntry
from swarm_hub.util.hashing import sha256_hex

_WRITE_WITHIN_S: Final = 0.5
# What was sent and is not acknowledged after this time is written down.
_WRITE_DOWN_AFTER_S: Final = 0.25
# While others are at work, an outcome waits this long to share an envelope with theirs.
_SHARE_WITHIN_S: Final = 0.004


# The shards of a message share one text.
@functools.lru_cache(maxsize=64)
def _called(text: str) -> tuple[str, bool]:
    """Return what is signed of a call, and whether its results are to be signed by themselves."""
    call = ModuleCall.from_plain(json.loads(text)["call"])
    return call.sha, call.receipt


class Outbox:
    """Has outcomes delivered, and writes them down, many in one transaction."""

    def __init__(self, hub: Hub, assignments: Assignments, delivery: Delivery) -> None:
        self._hub = hub
        self._assignments = assignments
        self._delivery = delivery
        # What is sent without a row, what is sent once it has one, and what was sent before.
        self._light: list[OutboxEntry] = []
        self._finished: list[OutboxEntry] = []
        self._late: list[str] = []
        # Those that have a row in the inbox.
        self._written: list[str] = []
        self._writes: list[Write] = []
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Write down what is finished from now on."""
        self._hub.tasks.supervise(self._run, "worker outbox")

    def flush(self) -> None:
        """Have the store write at its end what the outbox may not come to any more."""
        unwritten = [*self._light, *self._delivery.write_down(self._delivery.unwritten())]
        self._hub.store.note([*inbox.finish(unwritten, []), *self.take_notes()])

    async def finish(self, entry: InboxEntry, outcome: CallResult) -> None:
        """Take the outcome of an assignment."""
        has_row = self._assignments.computed(entry.assignment_id)
        body: bytes | None = outcome.output if outcome.code == OK else b""
        size_bytes = len(body or b"")
        if body is not None and size_bytes > INLINE_MAX_BYTES:
            sha, row = await self._hub.store.blobs.put(body, self._hub.clock.time())
            self._writes.append(row)
            body = None
        else:
            sha = sha256_hex(body or b"")
        call_sha, is_kept = _called(entry.call)
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
            call_sha=call_sha,
        )
        done = OutboxEntry(
            result,
            entry.gateway,
            self._hub.clock.time(),
            entry.store_id,
            entry.call if is_kept else None,
        )
        if not has_row and body is not None:
            self._light.append(done)
            self._send_soon()
            return
        self._finished.append(done)
        if has_row:
            self._written.append(entry.assignment_id)
        self._wake.set()

    def write_soon(self, writes: list[Write]) -> None:
        """Write what is not urgent with the next results, or in a moment."""
        if writes and not self._writes:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_WRITE_WITHIN_S, self._wake.set)
        self._writes += writes

    def take_notes(self) -> list[Write]:
        """Return what was to be written soon; from now on it is the caller's."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        writes, self._writes = self._writes, []
        return writes

    def _send_soon(self) -> None:
        """Send what needs no row: at once, unless there will be more in a moment."""
        if len(self._assignments) <= len(self._light):
            self._send()
        elif self._sending is None:
            loop = asyncio.get_running_loop()
            self._sending = loop.call_later(_SHARE_WITHIN_S, self._send)

    def _send(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        light, self._light = self._light, []
        sent = [each for each in light if each.result.assignment_id in self._assignments]
        ids = [each.result.assignment_id for each in sent]
        self._assignments.forget(ids)
        self._delivery.deliver(sent, on_disk=False)
        asyncio.get_running_loop().call_later(_WRITE_DOWN_AFTER_S, self._write_down, ids)

    def _write_down(self, assignment_ids: list[str]) -> None:
        if late := self._delivery.unwritten(assignment_ids):
            self._late += late
            self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            finished, self._finished = self._finished, []
            written, self._written = self._written, []
            late, self._late = self._late, []
            finished = [each for each in finished if each.result.assignment_id in self._assignments]
            written = [each for each in written if each in self._assignments]
            # What is acknowledged from now on has a row to be deleted.
            sent = self._delivery.write_down(late)
            rows = inbox.finish([*finished, *sent], written)
            await self._hub.store.commit_when_possible([*rows, *self.take_notes()])
            self._assignments.forget(entry.result.assignment_id for entry in finished)
            self._delivery.deliver(finished)
            self._delivery.written(late)
