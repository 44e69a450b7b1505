"""Records from other hubs: their values are checked, and faults described in words.

Whatever a record has beyond the fields that are read comes from a later version and is ignored.
"""

from typing import Any, Final

from swarm_hub.util.hashing import SHA256_HEX

# Every result and every shard goes through these.
_is_sha256: Final = SHA256_HEX.match


def told(error: Exception) -> str:
    """Return what is wrong in words: a KeyError only knows the missing name."""
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def text(value: object, name: str) -> str:
    """Return a text; raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"{name!r} is not text: {value!r:.100}")
    return value


def sha256(value: object, name: str) -> str:
    """Return a hash in hex; raises ValueError."""
    if not isinstance(value, str) or not _is_sha256(value):
        raise ValueError(f"{name!r} is not a SHA-256: {value!r:.100}")
    return value


def size(value: object, name: str) -> int:
    """Return a number of bytes; raises ValueError."""
    # True is an int too, but of another type.
    if type(value) is not int or value < 0:
        raise ValueError(f"{name!r} is not a size: {value!r:.100}")
    return value


def items(value: object, name: str) -> list[Any]:
    """Return a list; raises ValueError."""
    if not isinstance(value, list):
        raise ValueError(f"{name!r} is not a list: {value!r:.100}")
    return value
