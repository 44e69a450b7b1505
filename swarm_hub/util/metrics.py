"""Numbers about a hub, for whoever watches it; free of any library that writes them down."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate
from typing import Final

# Seconds: from an answer out of memory to a job of an hour.
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600)


class Histogram:
    """Counts values by size, at the cost of a search in a short list."""

    __slots__ = ("_counts", "bounds", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = tuple(bounds)
        self._counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value; it is in the first bucket whose bound it does not exceed."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self._counts)

    def up_to(self) -> list[int]:
        """Return for each bound how many values did not exceed it, and at last how many all are."""
        return list(accumulate(self._counts))


class MetricKind(StrEnum):
    """What a number does over time."""

    GAUGE = "gauge"  # goes up and down
    COUNTER = "counter"  # only grows until the hub restarts
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric with its present values, by the values of its labels; names are Prometheus'."""

    name: str
    kind: MetricKind
    text: str
    values: Mapping[tuple[str, ...], float | Histogram] = field(default_factory=dict)
    labels: tuple[str, ...] = ()


# Called when somebody looks, so that nothing is kept up to date for nobody.
ReadMetrics = Callable[[], Iterable[Metric]]


def gauge(name: str, text: str, value: float) -> Metric:
    """Return a metric without labels that goes up and down."""
    return Metric(name, MetricKind.GAUGE, text, {(): value})


def counter(name: str, text: str, value: float) -> Metric:
    """Return a metric without labels that only grows."""
    return Metric(name, MetricKind.COUNTER, text, {(): value})


def histogram(name: str, text: str, value: Histogram) -> Metric:
    """Return a histogram without labels."""
    return Metric(name, MetricKind.HISTOGRAM, text, {(): value})


def by_label(
    name: str, kind: MetricKind, text: str, label: str, values: Mapping[str, float | Histogram]
) -> Metric:
    """Return a metric with one label."""
    return Metric(name, kind, text, {(key,): value for key, value in values.items()}, (label,))
