"""`adaptive`: nodes pull chunks of a fixed part of the job as they become free.

A chunk is 1/(50·slots) of the job over all slots with room: small enough that the slowest
node's last chunk costs little, large enough that few messages are sent.
"""

from collections.abc import Sequence
from typing import Final

from swarm_hub.components.scheduler.strategy import Cut, JobView, NodeView, deal

PLATFORM_SCHEMA: Final[dict[object, object]] = {}
_CHUNKS_PER_SLOT: Final = 50


def create() -> "Adaptive":
    """Return the strategy."""
    return Adaptive()


class Adaptive:
    """Fills the room of each node with chunks, the emptiest nodes first."""

    def cut(self, job: JobView, nodes: Sequence[NodeView]) -> list[Cut]:
        """Return as many chunks as there is room for."""
        slots = sum(node.slots for node in nodes)
        fair = -(-job.n_items // max(_CHUNKS_PER_SLOT * slots, 1))
        n_items = job.shard_size or max(1, min(fair, job.max_items))
        emptiest_first = sorted(nodes, key=lambda node: (node.load / node.slots, node.node_id))
        return deal(emptiest_first, n_items, job.pool_items)
