"""`weighted`: Swarm Runtime's fitness, memory over CPU use; every node gets its share at once.

fitness = free_ram_mb / (cpu_usage + 1), 1.0 without telemetry (Swarm Runtime v0.16.1). The
shares are rounded by the largest remainder method (Hamilton), so that they always add up and
nobody gets an empty shard.
"""

import math
from collections.abc import Sequence
from typing import Final

from swarm_hub.components.scheduler.strategies.base import Cut, JobView, NodeView
from swarm_hub.models.node import Telemetry

PLATFORM_SCHEMA: Final[dict[object, object]] = {}
_MIB: Final = 1024 * 1024


def create() -> "Weighted":
    """Return the strategy."""
    return Weighted()


class Weighted:
    """Splits the whole pool over the nodes with room, in proportion to their fitness."""

    def cut(self, job: JobView, nodes: Sequence[NodeView]) -> list[Cut]:
        """Return one cut per node, or several where `shard_size` or a limit requires it."""
        weights = [fitness(node.telemetry) for node in nodes]
        cuts: list[Cut] = []
        if job.shard_size is not None:
            n_shards = -(-job.pool_items // job.shard_size)
            for node, share in zip(nodes, largest_remainder(n_shards, weights), strict=True):
                cuts += [Cut(node.node_id, job.shard_size)] * min(share, node.room)
        else:
            for node, share in zip(nodes, largest_remainder(job.pool_items, weights), strict=True):
                cuts += _bounded(node, share, job.max_items)
        return cuts


def fitness(telemetry: Telemetry) -> float:
    """Return a node's weight, always finite and above zero.

    A missing value counts as no telemetry (1.0); zero memory and negative or NaN readings,
    which broke Swarm Runtime, are clamped to the possible range.
    """
    cpu, memory = telemetry.cpu_percent, telemetry.available_memory_bytes
    if cpu is None or memory is None or not math.isfinite(cpu) or not math.isfinite(memory):
        return 1.0
    return max(memory / _MIB, 1e-6) / (min(max(cpu, 0.0), 100.0) + 1.0)


def largest_remainder(total: int, weights: Sequence[float]) -> list[int]:
    """Split `total` in proportion to positive `weights`; the parts add up to `total`."""
    if not weights or total <= 0:
        return [0] * len(weights)
    whole = math.fsum(weights)
    quotas = [total * (weight / whole) for weight in weights]
    parts = [math.floor(quota) for quota in quotas]
    by_remainder = sorted(range(len(weights)), key=lambda n: parts[n] - quotas[n])
    for n in by_remainder[: total - sum(parts)]:
        parts[n] += 1
    return parts


def _bounded(node: NodeView, share: int, max_items: int) -> list[Cut]:
    cuts: list[Cut] = []
    while share > 0 and len(cuts) < node.room:
        cuts.append(Cut(node.node_id, min(share, max_items)))
        share -= cuts[-1].n_items
    return cuts
