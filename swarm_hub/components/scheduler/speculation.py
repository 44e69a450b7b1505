"""The end of a job: idle nodes run copies of the shards that would finish last; pure.

After LATE (Zaharia and others, "Improving MapReduce Performance in Heterogeneous Environments",
2008): the copy goes out if the idle node would probably be done before the node that has it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from swarm_hub.components.scheduler.entries import AssignmentEntry, JobEntry, ShardEntry
from swarm_hub.components.scheduler.nodes import NodeEntry

# A shard that takes no longer than this is done before a copy of it arrives.
_AGE_MIN_S: Final = 0.25
# How often to look: at most this often, and no sooner than after this share of the longest
# remaining time.
_LOOK_EVERY_S: Final = 0.25
_LOOK_SHARE: Final = 0.02
# A copy must promise to be done within this share of the time that the shard still takes.
_GAIN: Final = 0.75
_MARGIN_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Straggler:
    """A shard with a single open attempt, and how many seconds that will probably still take."""

    shard: ShardEntry
    remaining_s: float
    # When it will be late, if it isn't yet.
    late_at: float


def stragglers(job: JobEntry, nodes: Mapping[str, NodeEntry], now: float) -> list[Straggler]:
    """Return the shards that a second node may finish sooner, the last to finish first."""
    found = []
    for shard in job.shards.values():
        attempts = shard.open()
        if len(attempts) == 1:
            late_at = _late_at(attempts[0], shard, nodes.get(attempts[0].node_id), job)
            found.append(Straggler(shard, abs(late_at - now), late_at))
    found.sort(key=lambda late: (-late.remaining_s, late.shard.index))
    return found


def copies(
    job: JobEntry, late: list[Straggler], idle: Iterable[NodeEntry]
) -> list[tuple[ShardEntry, NodeEntry]]:
    """Return which idle node copies which shard; the fastest take those that would finish last."""
    program = job.plan.program
    fastest = sorted(idle, key=lambda node: (-(node.rate(program) or 0.0), node.node_id))
    found = []
    rest = iter(late)
    for node in fastest:
        rate = node.rate(program)
        straggler = next((each for each in rest if _may_copy(node, each.shard, job)), None)
        if rate is None or straggler is None:
            break
        if _wanted_s(straggler.shard, rate) > straggler.remaining_s:
            break
        found.append((straggler.shard, node))
    return found


def look_again_s(late: list[Straggler]) -> float:
    """Return for how many seconds no event makes another look necessary."""
    longest_s = late[0].remaining_s if late else 0.0
    return max(_LOOK_EVERY_S, _LOOK_SHARE * longest_s)


def next_look(
    job: JobEntry, late: list[Straggler], idle: Iterable[NodeEntry], now: float
) -> float | None:
    """Return when a copy begins to pay off if nothing happens until then; None if never."""
    rate = max((node.rate(job.plan.program) or 0.0 for node in idle), default=0.0)
    if rate <= 0:
        return None
    # A little later, so that it pays off then however the sums are rounded.
    times = [each.late_at + _wanted_s(each.shard, rate) + _MARGIN_S for each in late]
    return min((each for each in times if each > now), default=None)


def _may_copy(node: NodeEntry, shard: ShardEntry, job: JobEntry) -> bool:
    if any(attempt.node_id == node.node_id for attempt in shard.live):
        return False
    if job.plan.redundancy.copies == 1:
        return True
    owners = {vote.owner for vote in shard.votes} | {attempt.owner for attempt in shard.live}
    return node.owner not in owners


def _wanted_s(shard: ShardEntry, rate: float) -> float:
    """Return how long a shard must still take for a copy on an idle node to pay off."""
    return max(shard.n_items / rate / _GAIN, _AGE_MIN_S)


def _late_at(
    attempt: AssignmentEntry, shard: ShardEntry, node: NodeEntry | None, job: JobEntry
) -> float:
    """Return when an attempt should be done, by what is known of its node now.

    After that time it is assumed to need as much longer as it is already late. On a node of unknown
    speed it is assumed to need as long again as it has already taken, so that a stuck one is copied
    in the end.
    """
    run_s = None if node is None else node.run_s(job.plan.program, shard.n_items)
    if node is None or run_s is None:
        return attempt.begun_at
    return max(attempt.begun_at, node.last_result_at) + run_s
