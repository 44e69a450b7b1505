"""How many shards at once stay within the share of the memory that the owner gives them."""

import dataclasses

from swarm_hub.components.sandbox import SandboxService


def within_share(
    service: SandboxService, slots: int, share_percent: float, total_bytes: int | None
) -> tuple[SandboxService, int]:
    """Return the bounds of a shard and the number of slots, lowered as far as is needed.

    Each shard counts with all that it may have. There is always one slot, if need be with a
    smaller shard; where the device does not tell its memory, nothing is lowered.
    """
    if total_bytes is None:
        return service, slots
    share_bytes = int(total_bytes * share_percent / 100)
    memory_bytes = service.limits.memory_bytes
    if memory_bytes * slots <= share_bytes:
        return service, slots
    if memory_bytes <= share_bytes:
        return service, share_bytes // memory_bytes
    limits = dataclasses.replace(service.limits, memory_bytes=share_bytes)
    return dataclasses.replace(service, limits=limits), 1
