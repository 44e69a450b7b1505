"""Which child gets the next shard: a function of what the children are doing."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

# Of so many shards in a child half are answered while the other half hides the round trip, and what
# waits for it at most if they are as slow as those before them.
DEPTH_MAX = 16
BACKLOG_S = 0.016
# A child whose recent shards took longer gets one shard at a time, so that none waits
# behind another while a slot is free.
FAST_S = 0.002
# A larger input is not worth queueing in a child's socket.
SMALL_BYTES = 64 * 1024


class Lane(Protocol):
    """What the choice depends on in a child."""

    @property
    def idle(self) -> bool:
        """Whether it is ready, has nothing to do and is not reserved."""
        ...

    @property
    def takes_runs(self) -> bool:
        """Whether it occupies a slot: it runs shards, not suspended, or is reserved for one."""
        ...

    @property
    def queued(self) -> int:
        """The requests it has not answered yet."""
        ...

    @property
    def mean_s(self) -> float | None:
        """The moving average of its recent shards' wall time."""
        ...

    @property
    def pipelining(self) -> bool:
        """Whether it may get a shard behind another one, which does not hold that up."""
        ...

    @property
    def scope(self) -> str | None:
        """Whose shards it runs; None before its first one."""
        ...

    def has(self, key: str) -> bool:
        """Whether a module is loaded in it."""
        ...


L = TypeVar("L", bound=Lane)


def choose(
    lanes: Iterable[L], key: str, body_bytes: int, slots: int, scope: str | None = None
) -> L | None:
    """Return the child for a shard: idle with the module, idle, or fast and loaded.

    A child that ran shards of another scope is none.
    """
    running = best = 0
    idle: L | None = None
    behind: L | None = None
    for lane in lanes:
        if lane.idle:
            suits = _suits(lane, key, scope)
            if suits > best:
                idle, best = lane, suits
        elif lane.takes_runs:
            running += 1
            if (
                lane.scope == scope
                and _accepts(lane, key)
                and (behind is None or lane.queued < behind.queued)
            ):
                behind = lane
    if idle is not None and running < slots:
        return idle
    # Those that are too many, as there are fewer slots now, get no more.
    return behind if body_bytes <= SMALL_BYTES and running <= slots else None


def _suits(lane: Lane, key: str, scope: str | None) -> int:
    """Return how well an idle child suits a shard; 0 for not at all."""
    if lane.scope not in (None, scope):
        return 0
    # One that has run nothing is left to others, and to compilations.
    return 1 + lane.has(key) + 2 * (lane.scope is not None)


def _accepts(lane: Lane, key: str) -> bool:
    return (
        lane.pipelining
        and lane.queued < DEPTH_MAX
        and lane.mean_s is not None
        and lane.mean_s < FAST_S
        and lane.mean_s * lane.queued < BACKLOG_S
        and lane.has(key)
    )
