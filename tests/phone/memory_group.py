"""A control group in which processes have so much memory together and no more."""

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

_PREFIX = "swarm-hub-test"
_EMPTY_WITHIN_S = 5.0


@contextlib.contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path | None]:
    """Have such a group until the block ends; None where this machine lets nobody make one."""
    parents = list(_parents())
    _remove_leftovers(parents)
    made = next(filter(None, (_made(parent, limit_bytes) for parent in parents)), None)
    try:
        yield made
    finally:
        if made is not None:
            _remove(made)


def _parents() -> Iterator[Path]:
    """Yield groups in which one with a limit may be made: first the one that this process is in."""
    groups = [line.split(":", 2)[1:] for line in _lines("/proc/self/cgroup")]
    for line in _lines("/proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        mounted = Path(before.split()[4])
        kind, _, options = after.split()
        if kind == "cgroup" and "memory" in options.split(","):
            own = next(path for names, path in groups if "memory" in names.split(","))
            yield mounted / own.lstrip("/")
            yield mounted
        elif kind == "cgroup2":
            own = next((path for names, path in groups if not names), "/")
            # A group with processes can't limit those below it, so this goes beside its own.
            for parent in dict.fromkeys(((mounted / own.lstrip("/")).parent, mounted)):
                if "memory" in " ".join(_lines(parent / "cgroup.subtree_control")).split():
                    yield parent


def _made(parent: Path, limit_bytes: int) -> Path | None:
    group = parent / f"{_PREFIX}-{os.getpid()}-{time.monotonic_ns()}"
    try:
        group.mkdir()
    except OSError:
        return None
    for name in ("memory.limit_in_bytes", "memory.max"):
        try:
            if (group / name).exists():
                (group / name).write_text(str(limit_bytes))
                return group
        except OSError:
            break
    group.rmdir()
    return None


def _remove_leftovers(parents: Iterable[Path]) -> None:
    """Remove what a killed process of the tests left behind."""
    for group in (each for parent in parents for each in parent.glob(f"{_PREFIX}-*")):
        owner = group.name.removeprefix(f"{_PREFIX}-").partition("-")[0]
        if not Path("/proc", owner).exists():
            with contextlib.suppress(OSError):
                group.rmdir()


def _remove(group: Path) -> None:
    """Remove it once the processes in it, which were killed, are gone."""
    deadline = time.monotonic() + _EMPTY_WITHIN_S
    while True:
        try:
            return group.rmdir()
        except OSError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.02)


def _lines(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
