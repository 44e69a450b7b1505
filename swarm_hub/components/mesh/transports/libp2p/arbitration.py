"""Which of several streams between two peers becomes their session: both sides must agree.

Of two peers the one with the smaller id is the arbiter. It numbers the streams it accepts; the
other follows the highest number. So two simultaneous dials end with one session on both sides,
and a peer that lost its session (a restart, another network) gets a new one at once.

Every stream begins with one message each way, in the same frames as everything else:
the follower's `open {boot, seen, seen_boot}` and the arbiter's `live {boot, seq}` or `busy {}`,
whoever of them dialled; the side that opened the stream speaks first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

OPEN = "open"
LIVE = "live"
BUSY = "busy"
BYE = "bye"


@dataclass(frozen=True, slots=True)
class Generation:
    """A session's number, as assigned by one run (`boot`) of the arbiter."""

    boot: bytes
    seq: int


@dataclass(frozen=True, slots=True)
class Opening:
    """What a follower says: its own run and the last session it has seen live."""

    boot: bytes
    seen: Generation | None


def is_arbiter(own_id: str, peer_id: str) -> bool:
    """Whether this side decides."""
    return own_id < peer_id


def arbiter_accepts(current: Generation | None, current_boot: bytes | None, ask: Opening) -> bool:
    """Whether the arbiter lets this stream replace `current` (None: there is nothing yet).

    `current_boot` is the follower's run behind the current session, None while that session is
    still being opened.
    """
    if current is None:
        return True
    if current_boot is not None and current_boot != ask.boot:
        return True
    # The follower knew the current session when it asked, so it has lost it. If it did not know
    # it, both have dialled at once and the answer to the other stream is on its way.
    return ask.seen is not None and ask.seen.boot == current.boot and ask.seen.seq >= current.seq


def follower_accepts(current: Generation | None, offered: Generation) -> bool:
    """Whether the follower moves from its session to the one just offered."""
    return current is None or current.boot != offered.boot or offered.seq > current.seq


def opening_fields(boot: bytes, seen: Generation | None) -> dict[str, Any]:
    """The fields of `open`."""
    if seen is None:
        return {"boot": boot, "seen": 0, "seen_boot": b""}
    return {"boot": boot, "seen": seen.seq, "seen_boot": seen.boot}


def live_fields(generation: Generation) -> dict[str, Any]:
    """The fields of `live`."""
    return {"boot": generation.boot, "seq": generation.seq}


def read_opening(fields: Mapping[str, Any]) -> Opening | None:
    """Check the fields of `open`; None when they are not what they should be."""
    boot, seen, seen_boot = fields.get("boot"), fields.get("seen"), fields.get("seen_boot")
    if not (_is_boot(boot) and type(seen) is int and isinstance(seen_boot, bytes)):
        return None
    return Opening(boot, Generation(seen_boot, seen) if seen > 0 else None)


def read_live(fields: Mapping[str, Any]) -> Generation | None:
    """Check the fields of `live`; None when they are not what they should be."""
    boot, seq = fields.get("boot"), fields.get("seq")
    if not (_is_boot(boot) and type(seq) is int and seq > 0):
        return None
    return Generation(boot, seq)


def _is_boot(value: object) -> TypeGuard[bytes]:
    return isinstance(value, bytes) and len(value) == 16
