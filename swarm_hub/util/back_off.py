"""Pauses between tries that double, so that what is in trouble is not asked ever more."""

import math
import random
from typing import Final

# Beyond this any pause is longer than a life; a larger power would not fit a float.
_DOUBLINGS_MAX: Final = 64


def back_off_s(first_s: float, doublings: int, longest_s: float = math.inf) -> float:
    """Return a pause of `first_s` doubled so often, and at most `longest_s`."""
    return min(first_s * 2.0 ** min(doublings, _DOUBLINGS_MAX), longest_s)


def jittered_s(pause_s: float, low: float, high: float) -> float:
    """Return a pause times a random factor from `low` to `high`.

    Those who were cut off together so do not all come back at once.
    """
    return pause_s * random.uniform(low, high)  # noqa: S311  no secret
