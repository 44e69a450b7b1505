"""Which calls keep their instance from one shard to the next, as plain data that the hub reads too.

Only a command that reads frames can: every other abi begins an instance and ends it.
"""

# The abi of a command that gets its shards one after the other.
FRAMES = "wasi-frames"
# What stands before a shard in its frame: the same for each attempt at it.
SEED_BYTES = 8


def keeps(abi: str, *, deterministic: bool, fuel: int | None) -> bool:
    """Whether shards of such a call may share an instance.

    What one shard leaves behind must change no result that others compare, and fuel is counted from
    the start of an instance.
    """
    return abi == FRAMES and not deterministic and fuel is None
