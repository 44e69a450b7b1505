"""What happens when a time is reached; pure, as the time is an argument."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Final

from swarm_hub.components.scheduler.outcome import Outcome

# Cancelled alarms stay in the heap until their time, or until they are this many and the most.
_CANCELLED_MAX: Final = 1024


@dataclass(slots=True, eq=False)
class Alarm:
    """A time in monotonic seconds and what is done then; None once it is not wanted any more."""

    due: float
    ring: Callable[[float, Outcome], None] | None


class Alarms:
    """Alarms in the order of their times."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Alarm]] = []
        self._numbers = count()
        self._n_cancelled = 0

    def set(self, due: float, ring: Callable[[float, Outcome], None]) -> Alarm:
        """Have something happen at a time."""
        alarm = Alarm(due, ring)
        heapq.heappush(self._heap, (due, next(self._numbers), alarm))
        return alarm

    def cancel(self, alarm: Alarm | None) -> None:
        """Have nothing happen; also for one that rang already."""
        if alarm is None or alarm.ring is None:
            return
        alarm.ring = None
        self._n_cancelled += 1
        if self._n_cancelled > max(_CANCELLED_MAX, len(self._heap) // 2):
            self._heap = [entry for entry in self._heap if entry[2].ring is not None]
            heapq.heapify(self._heap)
            self._n_cancelled = 0

    def next(self) -> float | None:
        """Return when `ring` should be called next, None when nothing is to come."""
        while self._heap and self._heap[0][2].ring is None:
            self._pop()
        return self._heap[0][0] if self._heap else None

    def ring(self, now: float, outcome: Outcome) -> None:
        """Do what is due."""
        while self._heap and self._heap[0][0] <= now:
            alarm = self._pop()
            if (ring := alarm.ring) is not None:
                alarm.ring = None
                ring(now, outcome)

    def _pop(self) -> Alarm:
        alarm = heapq.heappop(self._heap)[2]
        self._n_cancelled -= alarm.ring is None
        return alarm
