"""Starting a child process that inherits nothing of the hub, and finding out why one ended."""

import asyncio
import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from swarm_hub.exceptions import SetupError
from swarm_hub.util.back_off import back_off_s

from .call import BAD_MODULE, CHILD_DIED, COMPILE_LIMIT, MEMORY, OUTPUT, WALL_TIME

_HERE = str(Path(__file__).parent)

# The child's package leaves the path as soon as it is imported, so that the files of this
# directory can't stand in for modules that wasmtime imports.
_IMPORTED = """\
import sys
here, site = sys.argv[1:3]
sys.path.insert(0, here)
import child
sys.path[0:1] = []
sys.path.append(site)
from child.abi import add, registry
"""
_BOOT = f"""{_IMPORTED}
link, quiet, parent, *abis = sys.argv[3:]
add(abis)
from child.main import main
main(int(link), int(quiet), int(parent))
"""
_CHECK = f"""{_IMPORTED}
add(sys.argv[3:])
registry()
"""

_STDERR_BYTES_MAX = 64 * 1024
_STDERR_TAIL_CHARS = 1_000
_CHECK_S = 30.0
_LARGE_SOCKET_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Launched:
    """A child that was just started; the descriptors belong to the receiver of this."""

    process: subprocess.Popen[bytes]
    link: socket.socket
    # Answers that the child wakes nobody for.
    quiet: socket.socket
    stderr: int
    # What the child may have left; whoever reaps it removes this.
    room: str


def wasmtime_directory() -> str:
    """Return the directory to import wasmtime from, found without importing it."""
    spec = importlib.util.find_spec("wasmtime")
    if spec is None or spec.origin is None:
        raise SetupError("The sandbox needs wasmtime; install it with: pip install wasmtime")
    return str(Path(spec.origin).parent.parent)


def launch(cwd: Path, site: str, abis: Sequence[str]) -> Launched:
    """Start a child: isolated Python, no environment, two inherited sockets.

    This blocks for about a millisecond and must stay on the hub's main thread: Linux ends a
    child with PR_SET_PDEATHSIG when the thread that started it ends, not the process.
    """
    with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
        link, link_end = _sockets(ours, theirs)
        quiet, quiet_end = _sockets(ours, theirs)
        stderr, stderr_end = os.pipe()
        ours.callback(os.close, stderr)
        theirs.callback(os.close, stderr_end)
        # Nobody reads the child's stderr until it is dead, so a full pipe must not block it.
        os.set_blocking(stderr_end, False)
        os.set_blocking(stderr, False)
        inherited = (link_end.fileno(), quiet_end.fileno())
        process = subprocess.Popen(
            _command(_BOOT, site, *map(str, inherited), str(os.getpid()), *abis),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr_end,
            env={},
            cwd=cwd,
            pass_fds=inherited,
            start_new_session=True,
        )
        ours.pop_all()
    return Launched(process, link, quiet, stderr, str(cwd / f"room.{process.pid}"))


def _sockets(
    ours: contextlib.ExitStack, theirs: contextlib.ExitStack
) -> tuple[socket.socket, socket.socket]:
    """Return two connected ends, the first for the hub, which never waits at it."""
    end, other_end = socket.socketpair()
    ours.enter_context(end)
    theirs.enter_context(other_end)
    end.setblocking(False)
    for each in (end, other_end):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGE_SOCKET_BYTES)
    return end, other_end


def check_abis(site: str, abis: Sequence[str]) -> str | None:
    """Import ABIs of custom components as a child would; returns what is wrong, or None."""
    try:
        ended = subprocess.run(
            _command(_CHECK, site, *abis),
            stdin=subprocess.DEVNULL, capture_output=True, env={}, timeout=_CHECK_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    words = ended.stderr[-_STDERR_BYTES_MAX:].decode(errors="replace")
    return None if ended.returncode == 0 else _last_line(words) or f"exit {ended.returncode}"


def _command(code: str, site: str, *arguments: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code, _HERE, site, *arguments]


async def reap(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process that is about to end and return its exit status."""
    looks = 0
    while (status := process.poll()) is None:
        await asyncio.sleep(back_off_s(0.001, looks, 0.05))
        looks += 1
    return status


def last_words(stderr: int) -> str:
    """Return the tail of what a dead child wrote to its stderr."""
    try:
        return os.read(stderr, _STDERR_BYTES_MAX).decode(errors="replace")[-_STDERR_TAIL_CHARS:]
    except BlockingIOError:
        return ""


def explain_death(operation: str, status: int, words: str) -> tuple[str, str]:
    """Return the failure code and text for the request that a child died on."""
    if operation in ("compile", "inspect", "assemble"):
        if "is not implemented" in words:
            return BAD_MODULE, (
                "The module exports or imports a function with a type the sandbox can't "
                f"describe, such as v128: {_last_line(words)}"
            )
        return COMPILE_LIMIT, (
            f"Compiling the module ended the compiler ({_cause(status, words)}); "
            "split its largest functions or leave out unused code"
        )
    if operation == "run":
        if status == -signal.SIGXFSZ:
            return OUTPUT, (
                "The command wrote more than its limit; "
                "use smaller shards or a higher limits.output"
            )
        if status == -signal.SIGXCPU:
            return WALL_TIME, "The shard used more CPU time than its wall time limit allows"
        if "memory allocation of" in words:
            return MEMORY, "The sandbox ran out of memory; use smaller shards or a higher limit"
    return CHILD_DIED, f"The sandbox process ended ({_cause(status, words)})"


def _cause(status: int, words: str) -> str:
    if status >= 0:
        cause = f"exit status {status}"
    elif status == -signal.SIGXCPU:
        cause = "out of CPU time"
    elif status == -signal.SIGSYS:
        cause = "SIGSYS, for a system call that the fence forbids"
    else:
        cause = signal.Signals(-status).name if -status in set(signal.Signals) else str(status)
    return f"{cause}: {_last_line(words)}" if words.strip() else cause


def _last_line(words: str) -> str:
    return words.strip().rsplit("\n", 1)[-1]
