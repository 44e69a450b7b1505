"""What a strategy sees and says: views of a job and its nodes in, cuts out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from swarm_hub.models.node import Telemetry

# A phone that is this warm computes slower and ages.
_HOT_C: Final = 40.0


@dataclass(frozen=True, slots=True)
class JobView:
    """A job with uncut items; `max_items` bounds a shard, `shard_size` fixes it where given."""

    job_id: str
    n_items: int
    pool_items: int
    shard_size: int | None
    max_items: int
    # How fast all nodes that take work ran this job's module together, in items a second over
    # `measured_slots` of their `slots` slots.
    rate: float = 0.0
    measured_slots: int = 0
    slots: int = 1
    # Whether trusted nodes do its shards alone; the others still have to earn that.
    trust_counts: bool = False

    @property
    def fleet_rate(self) -> float | None:
        """Items a second of all nodes; those not measured yet count as the mean of the others."""
        if self.measured_slots <= 0 or self.rate <= 0:
            return None
        return self.rate * max(self.slots, self.measured_slots) / self.measured_slots


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node that may get work: it runs `slots` shards at once and takes `room` more now."""

    node_id: str
    slots: int
    load: int
    room: int
    telemetry: Telemetry
    # Items of this job's module a second on one slot; None before the first result.
    rate: float | None
    # Round trip in seconds; None if not measured.
    rtt_s: float | None = None
    # How many of its latest results in a row others confirmed, and whether that is enough for its
    # results to count alone.
    agreements: int = 0
    trusted: bool = False

    @property
    def cached(self) -> bool:
        """Whether it has run this job's module, and so need not be sent it."""
        return self.rate is not None


@dataclass(frozen=True, slots=True)
class Cut:
    """One shard: the next `n_items` of the pool go to that node."""

    node_id: str
    n_items: int


class Strategy(Protocol):
    """Decides how many items each node gets; a pure function of its arguments.

    It mutates nothing and does no I/O. Cuts beyond the pool or a node's room are dropped;
    with a fixed `shard_size` each cut must be of that size (the last one takes the rest). On an
    exception, or an answer that isn't a list of cuts, the default strategy takes over.
    """

    def cut(self, job: JobView, nodes: Sequence[NodeView]) -> list[Cut]:
        """Return cuts in item order for nodes with room; an empty list leaves it all for later."""


def rank(node: NodeView) -> tuple[float, bool, bool, bool, bool, bool, float, float, str]:
    """Return a sort key: the best node first.

    Emptier, not hot, not running down its battery, not on a metered network, with the module,
    trusted, faster, nearer; the id makes the order the same every time. As emptier nodes go first,
    those that still have to earn trust get work as soon as the trusted ones are busy.
    """
    told = node.telemetry
    return (
        node.load / node.slots,
        told.temperature_c is not None and told.temperature_c >= _HOT_C,
        told.has_battery is not False and told.charging is False,
        told.metered is True,
        not node.cached,
        not node.trusted,
        -(node.rate or 0.0),
        node.rtt_s or 0.0,
        node.node_id,
    )


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
