"""Errors of a process that gets no more memory or threads, and the line that tells its owner.

Such a hub ends: parts of it are dead already, and what supervises it starts it again. Everything
that it acknowledged is on disk, as before any other death.
"""

import asyncio
import errno
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from swarm_hub.util.device import available_memory_bytes
from swarm_hub.util.units import format_size

# An idle worker has 82 MB and its sandbox child 25; 150 MB of data sufficed and 100 did not
# (docs/measurements.md).
_NEEDED: Final = "a worker needs about 150 MiB, more with large shards"
_CAUSES_MAX: Final = 50
# What the dynamic linker, Python and SQLite say.
_TEXTS: Final = (
    "can't start new thread",
    "can't allocate",
    "cannot allocate memory",
    "failed to map segment",
    "out of memory",
)


def is_exhausted(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, says that there is no memory or no thread."""
    return any(_says_so(each) for each in _chain(error))


def end_if_exhausted(error: BaseException) -> None:
    """Tell the loop of such an error, upon which `runner` ends the process in which a hub runs."""
    if is_exhausted(error):
        asyncio.get_running_loop().call_exception_handler(
            {"message": "There is too little memory", "exception": error}
        )


def explain(error: BaseException) -> str:
    """Return a line: what failed, how much memory this process had, and what to do."""
    what = next((each for each in _chain(error) if _says_so(each)), error)
    text = f"{type(what).__name__}: {what}".partition("\n")[0].removesuffix(": ")
    held = f"this process had {format_size(_own_bytes())} and {threading.active_count()} threads"
    return f"too little memory ({text}): {held}, {_bounds()}; {_remedy()}"


def last_words() -> bytes:
    """Return a line for when there is no memory even to say so, to be made beforehand."""
    return f"swarm-hub: too little memory: {_bounds()} at the start; {_remedy()}\n".encode()


def _says_so(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    # An error of one of our own says what it means; what led to it is in the chain.
    if not isinstance(error, RuntimeError | ImportError | OSError) and (
        type(error).__module__ != "sqlite3"
    ):
        return False
    text = str(error).lower()
    return any(each in text for each in _TEXTS)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, those in its groups, and what each of them was raised from or during."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < _CAUSES_MAX:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
        waiting += [each.__context__, each.__cause__]


def _bounds() -> str:
    """Return what this process may have, and what the device has left."""
    limits = [
        f"{format_size(soft)} of {what}"
        for kind, what in ((resource.RLIMIT_DATA, "data"), (resource.RLIMIT_AS, "addresses"))
        if (soft := resource.getrlimit(kind)[0]) != resource.RLIM_INFINITY
    ]
    limit = f"its limit is {' and '.join(limits)}, " if limits else ""
    available = available_memory_bytes()
    left = "an unknown amount" if available is None else format_size(available)
    return f"{limit}the device had {left} left"


def _remedy() -> str:
    limited = [
        f"ulimit {flag} unlimited"
        for kind, flag in ((resource.RLIMIT_DATA, "-d"), (resource.RLIMIT_AS, "-v"))
        if resource.getrlimit(kind)[0] != resource.RLIM_INFINITY
    ]
    if limited:
        return f"{_NEEDED}: raise its limit ({', '.join(limited)}) and run it again"
    return f"{_NEEDED}: end other programs, lower worker: slots, and run it again"


def _own_bytes() -> int:
    """Return the memory that this process holds, 0 if the system does not tell."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except (OSError, MemoryError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
