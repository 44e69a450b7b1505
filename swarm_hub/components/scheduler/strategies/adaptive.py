"""`adaptive`: nodes pull chunks as they become free, the larger the faster they were.

The first probe of a module is a single item: nothing is known of it, and a shard that takes longer
than its wall time fails. A node that has not run the module, while others have, gets about a second
of the mean node's work, at most 1/100 of a fair share. From then on a chunk is
rate × min(rest / 4Σrate, 5 % of the whole job's time): factoring, so that chunks shrink towards the
end, under a cap, so that a lost node costs little (facts: makespan 1.17–1.20 of the lower bound
with 5 % churn on 10 to 1,000 nodes). Where every result of an untrusted node is confirmed, such
nodes get smaller chunks: trust is earned by the number of results, whatever their size, and each of
them is work done twice.
"""

from collections.abc import Sequence
from typing import Final

from swarm_hub.components.scheduler.strategies.base import Cut, JobView, NodeView, deal, rank

PLATFORM_SCHEMA: Final[dict[object, object]] = {}
_PROBES_PER_SLOT: Final = 100
_PROBE_S: Final = 1.0
_REST_DIVISOR: Final = 4
_CAP_SHARE: Final = 0.05
# The share of that for a node that still has to earn trust.
_PROBATION_SHARE: Final = 0.25
# A shorter chunk costs more to send than to run, but a slot never takes more than its fair share of
# what is left.
_CHUNK_MIN_S: Final = 0.02


def create() -> "Adaptive":
    """Return the strategy."""
    return Adaptive()


class Adaptive:
    """Fills the room of each node with chunks, the best nodes first."""

    def cut(self, job: JobView, nodes: Sequence[NodeView]) -> list[Cut]:
        """Return as many chunks as there is room for."""
        best_first = sorted(nodes, key=rank)
        if job.shard_size is not None:
            return deal(best_first, job.shard_size, job.pool_items)
        cuts: list[Cut] = []
        rest = job.pool_items
        for turn in range(max((node.room for node in nodes), default=0)):
            for node in best_first:
                if rest <= 0:
                    return cuts
                if turn < node.room:
                    cuts.append(Cut(node.node_id, min(_chunk(job, node, rest), rest)))
                    rest -= cuts[-1].n_items
        return cuts


def _chunk(job: JobView, node: NodeView, rest: int) -> int:
    fleet_rate = job.fleet_rate
    if fleet_rate is None:
        n_items = 1.0
    elif node.rate is None:
        fair = job.n_items / (_PROBES_PER_SLOT * job.slots)
        n_items = min(fair, _PROBE_S * job.rate / job.measured_slots)
    else:
        rest_s = rest / fleet_rate
        chunk_s = min(rest_s / _REST_DIVISOR, _CAP_SHARE * job.n_items / fleet_rate)
        if job.trust_counts and not node.trusted:
            chunk_s *= _PROBATION_SHARE
        n_items = node.rate * max(chunk_s, min(_CHUNK_MIN_S, rest_s))
    return max(1, min(round(n_items), job.max_items))
