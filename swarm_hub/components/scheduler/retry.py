"""Where a shard that needs another attempt goes, and when it is given up; pure."""

from collections.abc import Callable, Collection, Iterable
from typing import Final

from swarm_hub.components.scheduler.eligibility import unfit
from swarm_hub.components.scheduler.entries import JobPlan, ShardEntry
from swarm_hub.components.scheduler.nodes import NodeEntry
from swarm_hub.util.back_off import back_off_s

# Failures on this many different nodes are the job's fault, not the nodes'.
_FAILURES_MAX: Final = 3
# A shard on which the module failed waits this long, then twice as long each time.
_BACK_OFF_S: Final = 0.1


def retry_node(
    shard: ShardEntry,
    plan: JobPlan,
    with_room: Iterable[NodeEntry],
    everyone: Iterable[NodeEntry],
    now: float,
    trusts: Callable[[NodeEntry], bool],
) -> NodeEntry | None:
    """Return the least-loaded node that could do better than those that had the shard.

    A node that still works on it is excluded, as is every owner who already gave a result. A node
    on which the module failed gets it again only if there is no other among `everyone`; so the
    shard waits for a busy node that has not failed. If both have room, a trusted node's result is
    compared with that of an untrusted one.
    """
    running_on = {attempt.node_id for attempt in shard.live if attempt.placed}
    voted = set()
    partner_trusted = None
    if plan.redundancy.copies > 1 or plan.known_sha(shard) is not None:
        partner_trusted = _needs_trusted(shard)
        voted = {vote.owner for vote in shard.votes} | {attempt.owner for attempt in shard.open()}

    def able(node: NodeEntry) -> bool:
        return (
            not node.change.refuses
            and node.node_id not in running_on
            and node.owner not in voted
            and unfit(node, plan, now) is None
        )

    failed_on = {node_id for node_id, _ in shard.failures}
    found = [node for node in with_room if able(node)]
    if failed_on and any(able(node) and node.node_id not in failed_on for node in everyone):
        found = [node for node in found if node.node_id not in failed_on]
    return min(
        found,
        key=lambda node: (
            node.node_id in shard.tried,
            partner_trusted is not None and trusts(node) is not partner_trusted,
            len(node.load) / node.change.slots,
            -node.rates.get(plan.program, 0.0),
            node.node_id,
        ),
        default=None,
    )


def _needs_trusted(shard: ShardEntry) -> bool:
    """Whether a trusted node should give the shard's next result.

    It should confirm an untrusted node's result, and settle a dispute. A trusted node's result is
    checked by an untrusted one, which can thus earn trust even where trusted ones are always free.
    """
    if len({vote.sha for vote in shard.votes}) > 1:
        return True
    has_one = any(vote.trusted for vote in shard.votes)
    return not has_one and not any(attempt.trusted for attempt in shard.open())


def pause_s(shard: ShardEntry) -> float:
    """Return how long a shard waits after its last failure."""
    return back_off_s(_BACK_OFF_S, len(shard.failures) - 1)


def is_hopeless(shard: ShardEntry, connected: Collection[str]) -> bool:
    """Whether a shard's failures fail its job."""
    failed_on = {node_id for node_id, _ in shard.failures}
    if len(failed_on) >= _FAILURES_MAX:
        return True
    # In a small fleet there may never be three nodes; three tries must do.
    return len(shard.failures) >= _FAILURES_MAX and failed_on.issuperset(connected)
