"""What jobs cost by the role of the process: CPU by the scheduler's own count, and time slices.

Load beside it stretches times; it changes these little, and both sides of a pair alike.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
from idle_cost import scheduled


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
        gateway_s, gateway_slices = scheduled(self._gateway)
        workers = [scheduled(pid) for pid in self._workers]
        children = [
            scheduled(child.pid)
            for pid in (self._gateway, *self._workers)
            for child in psutil.Process(pid).children(recursive=True)
        ]
        return (
            gateway_s * 1000,
            sum(used_s for used_s, _ in workers) * 1000,
            sum(used_s for used_s, _ in children) * 1000,
            time.process_time() * 1000,
            gateway_slices + sum(slices for _, slices in workers),
        )
