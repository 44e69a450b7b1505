"""Records from other hubs: their values are checked, and faults described in words.

Whatever a record has beyond the fields that are read comes from a later version and is ignored.
"""

import re
from typing import Any, Final

from swarm_hub.util.bounds import (
    DURATION_MAX_S,
    INT64_MAX,
    SIZE_MAX_BYTES,
    TEXT_MAX_CHARS,
    is_int,
    is_number,
    is_text,
    shown,
)
from swarm_hub.util.hashing import SHA256_HEX

# Every result and every shard goes through these.
_is_sha256: Final = SHA256_HEX.match
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


def told(error: Exception) -> str:
    """Return what is wrong in words: a KeyError only knows the missing name."""
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def text(value: object, name: str, most_chars: int = TEXT_MAX_CHARS) -> str:
    """Return a text of at most so many characters, without NUL; raises ValueError."""
    if not is_text(value, most_chars):
        raise ValueError(
            f"{name!r} is not text of at most {most_chars} characters without NUL: {shown(value)}"
        )
    return value  # type: ignore[return-value]


def storable(value: object, name: str, most_chars: int) -> str:
    """Return the beginning of a text for people, what can't be stored replaced; raises ValueError.

    PostgreSQL has no text with NUL in it, and halves of surrogate pairs can't be written as UTF-8.
    """
    if not isinstance(value, str):
        raise ValueError(f"{name!r} is not text: {shown(value)}")
    short = value[:most_chars]
    if is_text(short, most_chars):
        return short
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", short)


def sha256(value: object, name: str) -> str:
    """Return a hash in hex; raises ValueError."""
    if not isinstance(value, str) or not _is_sha256(value):
        raise ValueError(f"{name!r} is not a SHA-256: {shown(value)}")
    return value


def size(value: object, name: str) -> int:
    """Return a number of bytes; raises ValueError."""
    if not is_int(value, 0, SIZE_MAX_BYTES):
        raise ValueError(f"{name!r} is not a size: {shown(value)}")
    return value  # type: ignore[return-value]


def count(value: object, name: str) -> int:
    """Return a whole number from 0 on that fits into 64 bits; raises ValueError."""
    if not is_int(value, 0, INT64_MAX):
        raise ValueError(f"{name!r} is not a size or a count: {shown(value)}")
    return value  # type: ignore[return-value]


def seconds(value: object, name: str) -> float:
    """Return a duration; raises ValueError."""
    if not is_number(value, 0, DURATION_MAX_S):
        raise ValueError(f"{name!r} is not a duration: {shown(value)}")
    return float(value)  # type: ignore[arg-type]


def items(value: object, name: str, most: int) -> list[Any]:
    """Return a list of at most so many items; raises ValueError."""
    if not isinstance(value, list):
        raise ValueError(f"{name!r} is not a list: {shown(value)}")
    if len(value) > most:
        raise ValueError(f"{name!r} has {len(value)} items; at most {most} are accepted")
    return value
