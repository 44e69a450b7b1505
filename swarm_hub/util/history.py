"""A bounded history of some numbers: one row for each step of time, the oldest overwritten."""

import math
from array import array
from collections.abc import Sequence


class History:
    """Keeps `rows` rows of `columns` numbers, each of four bytes; None is kept as not known.

    The newest values within a step count. Rows for which nothing came are not known.
    """

    __slots__ = ("_newest", "_oldest", "_rows", "_values", "step_s")

    def __init__(self, columns: int, rows: int, step_s: float) -> None:
        self.step_s = step_s
        self._rows = rows
        self._values = [array("f", [math.nan]) * rows for _ in range(columns)]
        # The number of the step, since the beginning of time.
        self._oldest = self._newest = -1

    @property
    def newest_at(self) -> float:
        """When the newest row begins; below 0 if there is none."""
        return self._newest * self.step_s

    @property
    def size_bytes(self) -> int:
        """How much the numbers take."""
        return sum(len(column) * column.itemsize for column in self._values)

    def put(self, now: float, values: Sequence[float | None]) -> None:
        """Keep the values of the present step; those of an earlier step than the newest are lost.

        A clock that was set back would otherwise make the rows between wrong.
        """
        step = int(now / self.step_s)
        if step < self._newest:
            return
        if self._newest < 0 or step - self._newest >= self._rows:
            self._oldest = step
        else:
            for missed in range(self._newest + 1, step):
                self._fill(missed, ())
        self._newest = step
        self._oldest = max(self._oldest, step - self._rows + 1)
        self._fill(step, values)

    def times(self) -> list[float]:
        """Return when each row begins, oldest first."""
        return [step * self.step_s for step in self._steps()]

    def columns(self) -> list[list[float | None]]:
        """Return the values of each column, oldest first."""
        return [
            [_known(column[step % self._rows]) for step in self._steps()] for column in self._values
        ]

    def _steps(self) -> range:
        return range(self._oldest, self._newest + 1) if self._newest >= 0 else range(0)

    def _fill(self, step: int, values: Sequence[float | None]) -> None:
        at = step % self._rows
        for number, column in enumerate(self._values):
            value = values[number] if values else None
            column[at] = math.nan if value is None else value


def _known(value: float) -> float | None:
    # Four bytes have seven digits; more would only look exact.
    return None if math.isnan(value) else float(f"{value:.7g}")
