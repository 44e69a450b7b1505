"""What jobs cost by the role of the process: CPU by the scheduler's own count, and time slices.

Load beside it stretches times; it changes these little, and both sides of a pair alike.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Spent:
    """What a job cost; `worker_ms` and `child_ms` are those of all workers together."""

    gateway_ms: float
    worker_ms: float
    child_ms: float
    client_ms: float
    time_slices: float

    @property
    def hubs_ms(self) -> float:
        """The CPU of all processes but the client's."""
        return self.gateway_ms + self.worker_ms + self.child_ms


class Meter:
    """Counts from its making on, for a gateway, workers and the sandbox children of both."""

    def __init__(self, gateway: int, workers: Sequence[int]) -> None:
        self._gateway, self._workers = gateway, workers
        self._before = self._read()

    def a_job(self, jobs: int) -> Spent:
        """Return what each of so many jobs cost since the meter was made."""
        spent = [
            (now - before) / jobs for now, before in zip(self._read(), self._before, strict=True)
        ]
        return Spent(*spent)

    def _read(self) -> tuple[float, float, float, float, float]:
        gateway_ms, gateway_slices = _of_process(self._gateway)
        workers = [_of_process(pid) for pid in self._workers]
        children = [
            _of_process(child.pid)
            for pid in (self._gateway, *self._workers)
            for child in psutil.Process(pid).children(recursive=True)
        ]
        return (
            gateway_ms,
            sum(ms for ms, _ in workers),
            sum(ms for ms, _ in children),
            time.process_time() * 1000,
            gateway_slices + sum(slices for _, slices in workers),
        )


def _of_process(pid: int) -> tuple[float, int]:
    """Return the CPU in milliseconds and the time slices of all threads that have not ended."""
    cpu_ns = slices = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            used, _, given = Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()
        except FileNotFoundError:
            continue
        cpu_ns += int(used)
        slices += int(given)
    return cpu_ns / 1e6, slices
