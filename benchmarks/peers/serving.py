"""What each system of this folder does on demand: jobs one after the other, or many tasks at once.

A system runs in a Python of its own, which has its packages and need not have this project's. It is
told what to do line by line on stdin; each line in and out is one JSON object.
"""

import array
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

WORKERS = 4


class System(Protocol):
    """A system with four workers, started by its constructor."""

    def map(self, name: str, shards: Sequence[bytes]) -> list[Any]:
        """Return what the function of that name gives for each shard, in their order."""

    def stop(self) -> None:
        """End what was started."""


def total(shard: bytes) -> int:
    """Return the sum of int32 values."""
    return sum(array.array("i", shard))


def same(shard: bytes) -> bytes:
    """Return what came."""
    return shard


FUNCTIONS: dict[str, Callable[[bytes], Any]] = {"total": total, "same": same}


def serve(start: Callable[[], System]) -> None:
    """Start a system, say so, and do what each line says."""
    system = start()
    try:
        system.map("same", [b"x"] * 2 * WORKERS)
        print(json.dumps({"ready": True}), flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            answer = {"jobs": _jobs, "tasks": _tasks}[asked["do"]](system, **asked["with"])
            print(json.dumps(answer), flush=True)
    finally:
        system.stop()


def _jobs(system: System, count: int) -> dict[str, Any]:
    """Add up 4,000 values in four shards, again and again; returns how long each took."""
    values = array.array("i", range(4000))
    shards = [values[at : at + 1000].tobytes() for at in range(0, 4000, 1000)]
    times = []
    for _ in range(count):
        started = time.perf_counter()
        found = sum(system.map("total", shards))
        times.append((time.perf_counter() - started) * 1000)
        if found != sum(values):
            raise SystemExit(f"wrong answer: {found}, expected {sum(values)}")
    return {"times_ms": times}


def _tasks(system: System, count: int) -> dict[str, Any]:
    """Send so many shards of 1 KiB and get them back."""
    shards = [number.to_bytes(8, "little") * 128 for number in range(count)]
    started = time.perf_counter()
    found = system.map("same", shards)
    took_s = time.perf_counter() - started
    if found != shards:
        raise SystemExit("wrong answer")
    return {"took_s": took_s}
