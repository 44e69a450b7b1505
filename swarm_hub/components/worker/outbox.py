"""From inbox to outbox: what is finished is on disk before it is delivered."""

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

_WRITE_WITHIN_S: Final = 0.1


# The shards of a message share one text.
@functools.lru_cache(maxsize=64)
def _called(text: str) -> tuple[str, bool]:
    """Return what is signed of a call, and whether its results are to be signed by themselves."""
    call = ModuleCall.from_plain(json.loads(text)["call"])
    return call.sha, call.receipt


class Outbox:
    """Writes down what is finished, many in one transaction, and has it delivered."""

    def __init__(self, hub: Hub, assignments: Assignments, delivery: Delivery) -> None:
        self._hub = hub
        self._assignments = assignments
        self._delivery = delivery
        self._finished: list[OutboxEntry] = []
        # Those that have a row in the inbox.
        self._written: list[str] = []
        self._writes: list[Write] = []
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Write down what is finished from now on."""
        self._hub.tasks.supervise(self._run, "worker outbox")

    def flush(self) -> None:
        """Have the store write at its end what the outbox may not come to any more."""
        self._hub.store.note(self.take_notes())

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
        self._finished.append(
            OutboxEntry(
                result,
                entry.gateway,
                self._hub.clock.time(),
                entry.store_id,
                entry.call if is_kept else None,
            )
        )
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

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            finished, self._finished = self._finished, []
            written, self._written = self._written, []
            writes = self.take_notes()
            finished = [each for each in finished if each.result.assignment_id in self._assignments]
            written = [each for each in written if each in self._assignments]
            await self._hub.store.commit_when_possible([*inbox.finish(finished, written), *writes])
            self._assignments.forget(entry.result.assignment_id for entry in finished)
            self._delivery.deliver(finished)
