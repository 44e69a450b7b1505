"""The end of a job: nodes without work copy the shards that would end last; pure.

After LATE (Zaharia and others, "Improving MapReduce Performance in Heterogeneous Environments",
2008): the copy goes out if the idle node would probably be done before the one that has it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from swarm_hub.components.scheduler.entries import AssignmentEntry, JobEntry, ShardEntry
from swarm_hub.components.scheduler.nodes import NodeEntry

# Shorter shards end before a copy of them arrives.
_AGE_MIN_S: Final = 0.25
# How often to look: this often, and no more often than in this share of the longest rest.
_LOOK_EVERY_S: Final = 0.25
_LOOK_SHARE: Final = 0.02
# A copy must promise to be done in this share of what the shard still takes.
_GAIN: Final = 0.75


@dataclass(frozen=True, slots=True)
class Straggler:
    """A shard with a single open attempt, and how many seconds that will probably still take."""

    shard: ShardEntry
    remaining_s: float


def stragglers(job: JobEntry, now: float) -> list[Straggler]:
    """Return the shards that a second node may end sooner, the latest to end first."""
    found = []
    for shard in job.shards.values():
        attempts = shard.open()
        if len(attempts) == 1 and now - attempts[0].offered_at >= _AGE_MIN_S:
            found.append(Straggler(shard, _remaining_s(attempts[0], now)))
    found.sort(key=lambda late: (-late.remaining_s, late.shard.index))
    return found


def copies(
    job: JobEntry, late: list[Straggler], idle: Iterable[NodeEntry]
) -> list[tuple[ShardEntry, NodeEntry]]:
    """Return which idle node copies which shard; the fastest take those that would end last."""
    program = job.plan.program
    fastest = sorted(idle, key=lambda node: (-node.rates.get(program, 0.0), node.node_id))
    found = []
    rest = iter(late)
    for node in fastest:
        rate = node.rates.get(program)
        straggler = next((each for each in rest if _may_copy(node, each.shard, job)), None)
        if rate is None or straggler is None:
            break
        if straggler.shard.n_items / rate > _GAIN * straggler.remaining_s:
            break
        found.append((straggler.shard, node))
    return found


def next_look_s(late: list[Straggler]) -> float:
    """Return in how many seconds to look again."""
    longest_s = late[0].remaining_s if late else 0.0
    return max(_LOOK_EVERY_S, _LOOK_SHARE * longest_s)


def _may_copy(node: NodeEntry, shard: ShardEntry, job: JobEntry) -> bool:
    if any(held.node_id == node.node_id for held in shard.live.values()):
        return False
    if job.plan.redundancy.copies == 1:
        return True
    owners = {vote.owner for vote in shard.votes} | {held.owner for held in shard.live.values()}
    return node.owner not in owners


def _remaining_s(attempt: AssignmentEntry, now: float) -> float:
    """Guess how long an attempt still takes.

    One that is overdue is thought to take as long again as it is late, and one of a node whose
    speed is unknown as long again as it has taken, so that a stuck one is copied in the end.
    """
    if attempt.expected_at is None:
        return now - attempt.offered_at
    return abs(attempt.expected_at - now)
