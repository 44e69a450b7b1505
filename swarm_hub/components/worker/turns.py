"""The order in which accepted shards are run: in turns of their scopes.

Shards of different scopes never share a child of the sandbox, and another child may have to be
started, so those of one are run together for a while before the next scope has its turn.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

TURN_S: Final = 2.0

T = TypeVar("T")


class Turns(Generic[T]):
    """Shards by their scope; within one they keep their order."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[T]] = OrderedDict()
        self._size = 0
        # Since when the first scope has its turn; None before its first shard.
        self._since_s: float | None = None

    def __len__(self) -> int:
        return self._size

    def put(self, scope: str, shard: T) -> None:
        """Queue a shard behind those of its scope."""
        self._queues.setdefault(scope, deque()).append(shard)
        self._size += 1

    def take(self, now_s: float) -> T:
        """Return the next shard; KeyError if there is none.

        A scope's turn ends when it has no more shards, or when it has lasted and another one waits.
        """
        scope = next(iter(self._queues), None)
        if scope is None:
            raise KeyError("there is no shard")
        if self._since_s is not None and now_s - self._since_s >= TURN_S:
            self._queues.move_to_end(scope)
            scope, self._since_s = next(iter(self._queues)), None
        if self._since_s is None:
            self._since_s = now_s
        queue = self._queues[scope]
        shard = queue.popleft()
        self._size -= 1
        if not queue:
            del self._queues[scope]
            self._since_s = None
        return shard


class TurnQueue(asyncio.Queue[T]):
    """A queue that gives its shards out in turns of their scopes."""

    def __init__(self, scope_of: Callable[[T], str], clock: Callable[[], float]) -> None:
        self._scope_of = scope_of
        self._clock = clock
        super().__init__()

    def _init(self, maxsize: int) -> None:
        self._queue: Turns[T] = Turns()

    def _put(self, item: T) -> None:
        self._queue.put(self._scope_of(item), item)

    def _get(self) -> T:
        return self._queue.take(self._clock())
