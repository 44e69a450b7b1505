"""Where a returned shard goes next, and when it is given up; pure."""

from collections.abc import Collection, Iterable
from typing import Final

from swarm_hub.components.scheduler.entries import NodeEntry, ShardEntry

# Failures on this many different nodes are the job's fault, not the nodes'.
_FAILURES_MAX: Final = 3


def retry_node(shard: ShardEntry, nodes: Iterable[NodeEntry], now: float) -> NodeEntry | None:
    """Return the least-loaded node that could do better than those that had the shard.

    A node that still works on it is out; one on which the module failed gets it again only
    where there is no other, so the shard waits for a busy node that has not failed.
    """
    failed_on = {node_id for node_id, _ in shard.failures}
    running_on = {held.node_id for held in shard.live.values() if not held.lost}
    able = [
        node for node in nodes if not node.change.refuses and node.change.node_id not in running_on
    ]
    fresh = [node for node in able if node.change.node_id not in failed_on]
    return min(
        (node for node in fresh or able if node.room(now) > 0),
        key=lambda node: (
            node.change.node_id in shard.tried,
            len(node.load) / node.change.slots,
            node.change.node_id,
        ),
        default=None,
    )


def is_hopeless(shard: ShardEntry, connected: Collection[str]) -> bool:
    """Whether a shard's failures fail its job."""
    failed_on = {node_id for node_id, _ in shard.failures}
    if len(failed_on) >= _FAILURES_MAX:
        return True
    # In a small fleet there may never be three nodes; three tries must do.
    return len(shard.failures) >= _FAILURES_MAX and failed_on.issuperset(connected)
