"""What a process costs at rest, by the kernel's counters: wake-ups, bytes, memory, CPU."""

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Counters:
    """Counters of all threads of a process that have not ended, at a time."""

    at: float
    # How often one of them was given a CPU: after it waited for something, or for its turn.
    time_slices: int
    # How often one of them began to wait; of both it is the one that other processes change least.
    waits: int
    cpu_s: float
    # Bytes on their way to a disk.
    written_bytes: int


def scheduled(pid: int) -> tuple[float, int]:
    """Return the CPU in seconds and the time slices of all threads that have not ended."""
    cpu_ns = time_slices = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        used, _, given = (task / "schedstat").read_text().split()
        cpu_ns += int(used)
        time_slices += int(given)
    return cpu_ns / 1e9, time_slices


def counters(pid: int) -> Counters:
    """Read the counters of a process."""
    _, time_slices = scheduled(pid)
    waits = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        waits += _field(task / "status", "voluntary_ctxt_switches")
    # The name, in brackets, may have spaces in it.
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    cpu_s = (int(times[11]) + int(times[12])) / _TICKS
    written = _field(Path(f"/proc/{pid}/io"), "write_bytes")
    return Counters(time.monotonic(), time_slices, waits, cpu_s, written)


@dataclass(frozen=True, slots=True)
class Rates:
    """What happened a second between two looks."""

    time_slices: float
    waits: float
    cpu_percent: float
    written_bytes: int


def rates(before: Counters, after: Counters) -> Rates:
    """Return what happened between two looks, by the second except for the bytes written."""
    took_s = after.at - before.at
    return Rates(
        (after.time_slices - before.time_slices) / took_s,
        (after.waits - before.waits) / took_s,
        100 * (after.cpu_s - before.cpu_s) / took_s,
        after.written_bytes - before.written_bytes,
    )


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of a process; what it shares with others counts in part in `pss_bytes`."""

    rss_bytes: int
    pss_bytes: int


def memory(pid: int) -> Memory:
    """Read what memory a process has now."""
    rollup = Path(f"/proc/{pid}/smaps_rollup")
    return Memory(_field(rollup, "Rss") * 1024, _field(rollup, "Pss") * 1024)


def _field(file: Path, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", file.read_text(), re.MULTILINE)
    assert found is not None, f"{file} has no {name}"
    return int(found[1])
