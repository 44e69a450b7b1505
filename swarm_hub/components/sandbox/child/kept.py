"""An instance that is kept from shard to shard: a command that waits for the next one.

The command runs in a thread of its own, which stands still inside its call for the next shard while
the child does anything else; only one of both ever runs. It is begun for one call, so that only
shards of one job share it, and ended by a failure, by another call, and when it has run for long.
"""

import threading
import time
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import Any

from .engine import Spent
from .frames import Frames, Turn
from .scratch import Scratch

# What a program leaks from shard to shard ends with it.
SHARDS_MAX = 10_000
_AGE_MAX_S = 600.0
# Of the limit of its memory: beyond, the next shard might fail for what others left.
_MEMORY_SHARE_MAX = 0.75
# More than the 512 KiB that Wasm may use of it; a system's own may be as large as an address space.
_STACK_BYTES = 4 * 1024 * 1024


class _Ended(Exception):
    """There are no more shards for a command; it is ended inside its call for the next."""


class KeptCommand:
    """The instance that this child keeps, if any."""

    def __init__(self, frames: Frames, scratch: Scratch) -> None:
        self._frames = frames
        self._scratch = scratch
        self._call: Mapping[str, Any] | None = None
        self._thread: threading.Thread | None = None
        self._turns: SimpleQueue[Turn | None] = SimpleQueue()
        # A turn that was answered, or why the command ended: None if by itself.
        self._said: SimpleQueue[Turn | BaseException | None] = SimpleQueue()
        self._spent = Spent()
        self._since_s = 0.0
        # Of the shards that were answered.
        self._n_shards = 0
        self._cpu_s = 0.0

    def run(
        self,
        call: Mapping[str, Any],
        body: bytes | bytearray,
        begin: Callable[[Spent], object],
        spent: Spent,
    ) -> bytes:
        """Have the command do one shard; `begin` runs it to its end where it does not run yet.

        Raises Failure, and fills `spent` either way. If the command ends of the shard, the next one
        begins another.
        """
        if self._thread is not None and self._call != call:
            self.end()
        started_s = time.perf_counter()
        turn = Turn(body, call["output"])
        self._scratch.forget_stderr()
        said = self._give(turn, call, begin)
        if not turn.is_begun and self._n_shards:
            # The command had ended after the shard before, of which this one knows nothing.
            self._forget()
            said = self._give(turn, call, begin)
        spent.said = self._scratch.stderr_text()
        if said is turn:
            self._n_shards += 1
            self._cpu_s += turn.cpu_s
            spent.wall_s, spent.cpu_s = turn.wall_s, turn.cpu_s
            spent.peak_memory_bytes = turn.memory_bytes
            if self._is_worn(call["memory"], turn.memory_bytes or 0):
                self.end()
            return turn.result(spent.said)
        self._forget()
        turn.close()
        spent.wall_s = time.perf_counter() - started_s
        spent.cpu_s = self._spent.cpu_s - self._cpu_s
        spent.peak_memory_bytes = self._spent.peak_memory_bytes
        if isinstance(said, BaseException):
            raise said
        return turn.result(spent.said)

    def _give(
        self, turn: Turn, call: Mapping[str, Any], begin: Callable[[Spent], object]
    ) -> Turn | BaseException | None:
        """Have a command take a shard; returns the shard once it is answered, or why it ended."""
        if self._thread is None:
            self._begin(call, begin)
        self._turns.put(turn)
        return self._said.get()

    def end(self) -> None:
        """End the command, which waits for a shard."""
        if self._thread is None:
            return
        self._turns.put(None)
        # One that goes on without asking is ended by the limit of the request that waits for it.
        self._said.get()
        self._forget()

    def _begin(self, call: Mapping[str, Any], begin: Callable[[Spent], object]) -> None:
        self._call, self._spent, self._since_s = call, Spent(), time.monotonic()
        self._n_shards, self._cpu_s = 0, 0.0
        self._frames.open(self._next_turn, self._said.put)
        threading.stack_size(_STACK_BYTES)
        self._thread = threading.Thread(target=self._work, args=(begin,), daemon=True)
        self._thread.start()

    def _next_turn(self) -> Turn:
        turn = self._turns.get()
        if turn is None:
            raise _Ended
        return turn

    def _work(self, begin: Callable[[Spent], object]) -> None:
        try:
            begin(self._spent)
        except BaseException as error:
            # Whoever waits for it must hear of anything, or would wait forever.
            self._said.put(error)
        else:
            self._said.put(None)

    def _forget(self) -> None:
        if self._thread is not None:
            self._thread.join()
        self._frames.close()
        self._thread, self._call = None, None
        # A command that ended before it took its shard left that there.
        self._turns = SimpleQueue()

    def _is_worn(self, limit_bytes: int, memory_bytes: int) -> bool:
        return (
            self._n_shards >= SHARDS_MAX
            or time.monotonic() - self._since_s > _AGE_MAX_S
            or memory_bytes > _MEMORY_SHARE_MAX * limit_bytes
        )
