"""Rounds of the same work: when it is warm, and their median and range."""

import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

ROUNDS: Final = 5
# Two rounds in a row that differ by less are those of something warm.
_ALIKE: Final = 0.05
_WARM_UP_ROUNDS_MAX: Final = 12


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some rounds, with the lowest and the highest."""

    median: float
    lowest: float
    highest: float
    rounds: int


def spread(values: Sequence[float]) -> Spread:
    """Return the spread of the values that rounds gave."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


def is_warm(values: Sequence[float]) -> bool:
    """Whether the last two rounds gave about the same."""
    return len(values) > 1 and abs(values[-1] - values[-2]) <= _ALIKE * values[-2]


@dataclass(frozen=True, slots=True)
class WarmUp:
    """How many rounds were thrown away, and whether they had become alike by then."""

    rounds: int
    stable: bool


async def warm_up(once: Callable[[], Awaitable[float]]) -> WarmUp:
    """Run rounds until two in a row are alike; a busy machine may never get there."""
    values: list[float] = []
    while not is_warm(values) and len(values) < _WARM_UP_ROUNDS_MAX:
        values.append(await once())
    return WarmUp(len(values), is_warm(values))


async def measured(once: Callable[[], Awaitable[float]], rounds: int = ROUNDS) -> Spread:
    """Run rounds and return the spread of what they gave."""
    return spread([await once() for _ in range(rounds)])
