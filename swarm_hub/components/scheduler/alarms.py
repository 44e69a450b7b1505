"""What happens when a time is reached; pure, as the time is an argument."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, Final, TypeVar

from swarm_hub.components.scheduler.outcome import Outcome

_T = TypeVar("_T")

# Cancelled alarms stay in the heap until their time, or until there are this many of them and they
# are the majority.
_CANCELLED_MAX: Final = 1024


@dataclass(slots=True, eq=False)
class Alarm:
    """A time in monotonic seconds, and what is to be done then, to whom.

    `ring` is None once the alarm rang or was cancelled. Equal times are ordered by `number`: shards
    that come back at the same time are then given out in their order.
    """

    due: float
    number: int
    ring: Callable[[Any, Outcome], None] | None
    subject: Any

    def __lt__(self, other: "Alarm") -> bool:
        if self.due != other.due:
            return self.due < other.due
        return self.number < other.number


class Alarms:
    """Alarms in the order of their times."""

    def __init__(self) -> None:
        # No tuples around them, which would cost more than the alarms.
        self._heap: list[Alarm] = []
        self._numbers = count()
        self._n_cancelled = 0

    def set(self, due: float, ring: Callable[[_T, Outcome], None], subject: _T) -> Alarm:
        """Have `ring(subject, outcome)` called at a time."""
        alarm = Alarm(due, next(self._numbers), ring, subject)
        heapq.heappush(self._heap, alarm)
        return alarm

    def cancel(self, alarm: Alarm | None) -> None:
        """Cancel an alarm; also one that rang already."""
        if alarm is None or alarm.ring is None:
            return
        alarm.ring = alarm.subject = None
        self._n_cancelled += 1
        if self._n_cancelled > max(_CANCELLED_MAX, len(self._heap) // 2):
            self._heap = [each for each in self._heap if each.ring is not None]
            heapq.heapify(self._heap)
            self._n_cancelled = 0

    def next(self) -> float | None:
        """Return when `ring` should be called next, None when no alarm is set."""
        while self._heap and self._heap[0].ring is None:
            self._pop()
        return self._heap[0].due if self._heap else None

    def ring(self, now: float, outcome: Outcome) -> None:
        """Do what is due; what fails for one job keeps nothing else from being done."""
        while self._heap and self._heap[0].due <= now:
            alarm = self._pop()
            if (ring := alarm.ring) is not None:
                alarm.ring = None
                try:
                    ring(alarm.subject, outcome)
                except Exception as error:
                    if (job_id := getattr(alarm.subject, "job_id", None)) is None:
                        raise
                    outcome.faults.append((job_id, error))

    def _pop(self) -> Alarm:
        alarm = heapq.heappop(self._heap)
        self._n_cancelled -= alarm.ring is None
        return alarm
