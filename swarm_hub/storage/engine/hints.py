"""What gateways on one store tell each other, so that nobody has to look all the time.

A hint may be lost, and whoever gets none looks once a second. The payload of a notification says
whose it is and what there is: `<gateway>:<first>-<last>` for events, `<gateway>:asked` when the
owner of a job is asked for something.
"""

import re
from dataclasses import dataclass
from typing import Final

_ASKED: Final = "asked"
_RANGE: Final = re.compile(r"[0-9]{1,19}-([0-9]{1,19})")


@dataclass(frozen=True, slots=True)
class Hint:
    """What another gateway has done: its events go up to `last_seq`, somebody is `asked`.

    `last_seq` is None if it is not known how far they go.
    """

    last_seq: int | None
    asked: bool


# What may have happened while nobody listened.
UNKNOWN: Final = Hint(None, asked=True)


def read(payload: str, own: str) -> Hint | None:
    """Return what a payload says, None if it is this gateway's own."""
    gateway, _, what = payload.rpartition(":")
    if gateway == own:
        return None
    if (found := _RANGE.fullmatch(what)) is not None:
        return Hint(int(found[1]), asked=False)
    # One of another version may mean anything.
    return Hint(0, asked=True) if what == _ASKED else UNKNOWN


def joined(first: Hint, second: Hint) -> Hint:
    """Return one hint for two."""
    known = first.last_seq is not None and second.last_seq is not None
    last_seq = max(first.last_seq or 0, second.last_seq or 0) if known else None
    return Hint(last_seq, asked=first.asked or second.asked)


def of_events(gateway: str, seqs: tuple[int, int]) -> str:
    """Return the payload that tells of numbered events."""
    return f"{gateway}:{seqs[0]}-{seqs[1]}"


def of_request(gateway: str) -> str:
    """Return the payload that tells the owner of a job that it is asked for something."""
    return f"{gateway}:{_ASKED}"
