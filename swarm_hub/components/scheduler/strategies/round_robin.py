"""`round_robin`: equal shares, whatever the nodes are like."""

from collections.abc import Sequence
from typing import Final

from swarm_hub.components.scheduler.strategies.base import Cut, JobView, NodeView, deal

PLATFORM_SCHEMA: Final[dict[object, object]] = {}


def create() -> "RoundRobin":
    """Return the strategy."""
    return RoundRobin()


class RoundRobin:
    """Deals shards of equal size to the nodes in turn."""

    def cut(self, job: JobView, nodes: Sequence[NodeView]) -> list[Cut]:
        """Return cuts dealt one per node and round, until the pool or the room is used up."""
        share = -(-job.pool_items // max(len(nodes), 1))
        return deal(nodes, job.shard_size or min(job.max_items, share), job.pool_items)
