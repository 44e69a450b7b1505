"""What a strategy sees and says: views of a job and its nodes in, cuts out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from swarm_hub.models.node import Telemetry


@dataclass(frozen=True, slots=True)
class JobView:
    """A job with uncut items; `max_items` bounds a shard, `shard_size` fixes it where given."""

    job_id: str
    n_items: int
    pool_items: int
    shard_size: int | None
    max_items: int


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node that may get work: it runs `slots` shards at once and takes `room` more now."""

    node_id: str
    slots: int
    load: int
    room: int
    telemetry: Telemetry
    # Items of this job's module a second, as measured; None before the first result.
    rate: float | None


@dataclass(frozen=True, slots=True)
class Cut:
    """One shard: the next `n_items` of the pool go to that node."""

    node_id: str
    n_items: int


class Strategy(Protocol):
    """Decides how many items each node gets; a pure function of its arguments.

    It mutates nothing and does no I/O. Cuts beyond the pool or a node's room are dropped;
    with a fixed `shard_size` each cut must be of that size (the last one takes the rest).
    """

    def cut(self, job: JobView, nodes: Sequence[NodeView]) -> list[Cut]:
        """Return cuts in item order for nodes that have room; none leaves the pool for later."""


def deal(nodes: Sequence[NodeView], n_items: int, pool_items: int) -> list[Cut]:
    """Deal shards of `n_items` to the nodes in turn, until the pool or all room is used up."""
    cuts: list[Cut] = []
    for turn in range(max((node.room for node in nodes), default=0)):
        for node in nodes:
            if len(cuts) * n_items >= pool_items:
                return cuts
            if turn < node.room:
                cuts.append(Cut(node.node_id, n_items))
    return cuts
