"""`fixed`: the same deadline for every attempt (the seed's 15 seconds)."""

from collections.abc import Callable
from typing import Final

import voluptuous as vol

from swarm_hub.helpers import config_validation as cv

PLATFORM_SCHEMA: Final = {vol.Optional("deadline", default=15): cv.positive_duration}


def create(deadline: float) -> Callable[[float | None, int], float]:
    """Return the rule; `deadline` in seconds."""
    return lambda _expected_s, _attempt: deadline
