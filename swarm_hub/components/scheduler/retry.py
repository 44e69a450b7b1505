"""Where a shard that needs another attempt goes, and when it is given up; pure."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from swarm_hub.components.scheduler.eligibility import unfit
from swarm_hub.components.scheduler.entries import JobPlan, Place, ShardEntry
from swarm_hub.components.scheduler.nodes import NodeEntry
from swarm_hub.util.back_off import back_off_s

# Failures on this many different nodes are the job's fault, not the nodes'.
FAILURES_MAX: Final = 3
# A shard on which the module failed waits this long, then twice as long each time.
_BACK_OFF_S: Final = 0.1
# One that took all of its wall time waits this long, or this share of the wall time, for a node on
# which it has not done so; then any will do, as a job that does not end has to be found out.
_OTHER_NODE_S: Final = 5.0
_OTHER_NODE_SHARE: Final = 0.25


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
    running_on = {attempt.node_id for attempt in shard.live if attempt.place is not Place.NOWHERE}
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

    failed_on = {failure.node_id for failure in shard.had.failures}
    failed_for = {failure.owner for failure in shard.had.failures}
    tried = shard.tried
    found = [node for node in with_room if able(node)]
    if (
        failed_on
        and not _has_waited(shard, plan, now)
        and any(able(node) and node.node_id not in failed_on for node in everyone)
    ):
        found = [node for node in found if node.node_id not in failed_on]
    return min(
        found,
        key=lambda node: (
            node.node_id in tried,
            node.owner in failed_for,
            partner_trusted is not None and trusts(node) is not partner_trusted,
            len(node.load) / node.change.slots,
            -(node.rate(plan.program) or 0.0),
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
    return back_off_s(_BACK_OFF_S, len(shard.had.failures) - 1)


def is_hopeless(shard: ShardEntry, able: Collection[str]) -> bool:
    """Whether a shard has failed often enough to blame its items.

    Three failures do: on different nodes, on all nodes that are `able` to run it, or each at the
    wall time.
    """
    failed_on = {failure.node_id for failure in shard.had.failures}
    if len(failed_on) >= FAILURES_MAX:
        return True
    if len(shard.had.failures) < FAILURES_MAX:
        return False
    if sum(failure.timed_out for failure in shard.had.failures) >= FAILURES_MAX:
        return True
    return failed_on.issuperset(able)


def never_ends(shard: ShardEntry, timed_out_on: Sequence[str], able: Collection[str]) -> bool:
    """Whether a module without a result took all of its wall time often enough to give it up.

    Three times, on three nodes or all that are `able` to run it, or on one shard.
    """
    if len(timed_out_on) < FAILURES_MAX:
        return False
    nodes = set(timed_out_on)
    if len(nodes) >= FAILURES_MAX or nodes.issuperset(able):
        return True
    return sum(failure.timed_out for failure in shard.had.failures) >= FAILURES_MAX


def may_be_skipped(shard: ShardEntry, owners: Collection[str]) -> bool:
    """Whether a shard's items may be left out: it takes the word of two owners.

    Where the nodes that may run it have only one of the `owners`, that one's word is enough.
    """
    failed_for = {failure.owner for failure in shard.had.failures}
    return len(failed_for) > 1 or failed_for.issuperset(owners)


def _has_waited(shard: ShardEntry, plan: JobPlan, now: float) -> bool:
    """Whether a shard has waited long enough for a node on which it did not take too long."""
    patience_s = min(_OTHER_NODE_S, plan.wall_s * _OTHER_NODE_SHARE)
    timed_out = all(failure.timed_out for failure in shard.had.failures)
    return timed_out and now >= shard.not_before + patience_s
