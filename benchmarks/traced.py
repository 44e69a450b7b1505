"""How often processes call futex(2), by strace: their threads wait there for each other.

It slows them down, so nothing else is measured meanwhile.
"""

import asyncio
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

_ATTACHED_WITHIN_S: Final = 10.0


async def futex_calls(pids: Sequence[int], work: Callable[[], Awaitable[object]]) -> int | None:
    """Return the calls of processes while `work` runs; None where there is no (use of) strace."""
    if shutil.which("strace") is None:
        return None
    with tempfile.NamedTemporaryFile("r") as told:
        chosen = [part for pid in pids for part in ("-p", str(pid))]
        process = await asyncio.create_subprocess_exec(
            "strace", "-f", "-c", "-e", "trace=futex", "-o", told.name, *chosen,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            if not await _attached(process, pids):
                return None
            await work()
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGINT)
            await process.wait()
        return calls_in(told.read(), "futex")


def calls_in(table: str, name: str) -> int:
    """Return how many calls the table of `strace -c` has of that name."""
    found = re.search(rf"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) .*\b{name}$", table, re.MULTILINE)
    return int(found[1]) if found is not None else 0


async def _attached(process: asyncio.subprocess.Process, pids: Sequence[int]) -> bool:
    """Whether it traces every thread; it ends where it may not."""
    deadline = time.monotonic() + _ATTACHED_WITHIN_S
    while process.returncode is None and time.monotonic() < deadline:
        if all(map(_is_traced, pids)):
            return True
        await asyncio.sleep(0.01)
    return False


def _is_traced(pid: int) -> bool:
    return not any(
        "TracerPid:\t0\n" in (task / "status").read_text()
        for task in Path(f"/proc/{pid}/task").iterdir()
    )
