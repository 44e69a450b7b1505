"""`fixed`: the same deadline for every attempt (Swarm Runtime's 15 seconds)."""

from collections.abc import Callable
from typing import Final

from swarm_hub.helpers import config_validation as cv

PLATFORM_SCHEMA: Final = {
    cv.Key("deadline", default=15, reloadable=True, field="deadline_s"): cv.positive_duration
}


def create(deadline_s: float) -> Callable[[float | None, int], float]:
    """Return the rule."""
    return lambda _expected_s, _attempt: deadline_s
