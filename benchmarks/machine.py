"""What a run's machine did beside it, and how fast its disk takes a page for good."""

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = bytes(4096)
_SYNCS: Final = 40


def sync_ms(folder: Path) -> float:
    """Return what it takes to append a page to a file in a folder and sync it, in the median."""
    times = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(_SYNCS):
            started = time.perf_counter()
            file.write(_PAGE)
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


@dataclass(frozen=True, slots=True)
class Look:
    """At a time: the CPU that all processes have used, and that of one's own tree."""

    at: float
    busy_s: float
    own_s: float


def look() -> Look:
    """Look at the machine and at the tree of this process."""
    return Look(time.monotonic(), _busy_s(), tree_cpu_s([os.getpid()]))


def foreign_cores(before: Look, after: Look) -> float:
    """Return how many cores others had busy between two looks."""
    foreign_s = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
    # The kernel counts both in ticks, so a little less than nothing may come out.
    return max(0.0, foreign_s) / (after.at - before.at)


def tree_cpu_s(pids: Sequence[int]) -> float:
    """Return the CPU of processes, their descendants, and those of them that have ended."""
    total = 0.0
    for pid in pids:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _busy_s() -> float:
    """Return the CPU that all processes of the machine have used, as far as the kernel says it."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _idle, _waiting, irq, soft_irq, *_ = map(
            int, file.readline().split()[1:]
        )
    return (user + nice + system + irq + soft_irq) / _TICKS
