"""A write for tests of the writer: small, and one of its own for each number."""

from swarm_hub.storage import Write
from swarm_hub.storage.queries import replay_cache

FOREVER = 10**12


def remember(number: int) -> Write:
    return replay_cache.remember(number.to_bytes(4, "big"), "peer", b"hash", FOREVER)
