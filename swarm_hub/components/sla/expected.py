"""`expected`: a multiple of the time the node should need by its measured rate.

Before any rate is known it is `initial`; each further attempt at a shard gets twice the time,
so that a shard that is merely long always finishes in the end.
"""

from collections.abc import Callable
from typing import Final

from swarm_hub.helpers import config_validation as cv

_FLOOR_S: Final = 5.0
_CAP_S: Final = 24 * 3600.0
_DOUBLINGS_MAX: Final = 16

PLATFORM_SCHEMA: Final = {
    cv.Key("factor", default=2.0, reloadable=True): cv.number(1, 100),
    cv.Key("initial", default=15, reloadable=True, field="initial_s"): cv.positive_duration,
}


def create(factor: float, initial_s: float) -> Callable[[float | None, int], float]:
    """Return the rule."""

    def deadline_s(expected_s: float | None, attempt: int) -> float:
        base_s = initial_s if expected_s is None else max(factor * expected_s, _FLOOR_S)
        return float(min(base_s * 2 ** min(attempt - 1, _DOUBLINGS_MAX), _CAP_S))

    return deadline_s
