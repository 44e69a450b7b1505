"""Processes that need not import the hub first, as they are forked from one that has.

    process = warm.start("swarm_hub", ["run", "-c", folder], stdout=log, stderr=log)

is like `subprocess.Popen([sys.executable, "-m", "swarm_hub", "run", "-c", folder], ...)` for a
tenth of the CPU: imports cost nearly a second, and half as much again under coverage. The child
is a process like any other: it can be killed, has its own files, environment and exit code. What
differs is what Python itself does at a start, so tests/test_runner.py, tests/test_store_care.py,
tests/restart/test_full_disk.py and the demo's test start their hubs the usual way.
"""

import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import swarm_hub
from swarm_hub.components.mesh.transports.libp2p import lean_import as libp2p_lean

_ROOT: Final = Path(__file__).parents[2]
_ORDER_BYTES_MAX: Final = 1 << 17
_END_TIMEOUT_S: Final = 30.0


class Process:
    """What was started, with the part of `subprocess.Popen` that tests need."""

    def __init__(self, arguments: Sequence[str], told: int) -> None:
        self._arguments = arguments
        self._told = os.fdopen(told, "rb", buffering=0)
        self.returncode: int | None = None
        self.pid = int(self._told.read(4096))

    def poll(self) -> int | None:
        """Return how it ended, None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; returns its exit code, or minus the signal."""
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._told, selectors.EVENT_READ)
                if not selector.select(timeout):
                    raise subprocess.TimeoutExpired(list(self._arguments), timeout or 0)
            self.returncode = int(self._told.read(4096))
            self._told.close()
        return self.returncode

    def send_signal(self, signum: int) -> None:
        """Send it a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it without a warning."""
        self.send_signal(signal.SIGKILL)


def start(
    module: str,
    arguments: Sequence[object],
    *,
    stdin: IO[bytes] | None = None,
    stdout: IO[bytes] | None = None,
    stderr: IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
) -> Process:
    """Run a module with these arguments; what is not given is /dev/null."""
    texts = [str(argument) for argument in arguments]
    order = {"module": module, "arguments": texts, "env": dict(env or os.environ), "cwd": cwd}
    hears, tells = os.pipe()
    with open(os.devnull, "r+b", buffering=0) as nothing:
        files = [(file or nothing).fileno() for file in (stdin, stdout, stderr)]
        with _starting:
            socket.send_fds(_server().link, [json.dumps(order).encode()], [*files, tells])
    os.close(tells)
    return Process([module, *texts], hears)


def run(
    module: str,
    arguments: Sequence[object],
    *,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    timeout_s: float = 60,
) -> "subprocess.CompletedProcess[bytes]":
    """Run a module to its end; returns what it said."""
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        given.write(stdin)
        given.seek(0)
        process = start(module, arguments, stdin=given, stdout=out, stderr=err, env=env)
        try:
            code = process.wait(timeout_s)
        finally:
            process.kill()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([module], code, out.read(), err.read())


def stop() -> None:
    """End the server when there is one."""
    global _running
    if _running is not None:
        _running.link.close()
        _running.process.wait(_END_TIMEOUT_S)
        _running = None


def server_pid() -> int | None:
    """Return the process that all others are forked from; it outlives the test it was made in."""
    return None if _running is None else _running.process.pid


def server_link() -> int | None:
    """Return the inode of the socket that leads to it, which outlives that test too."""
    return None if _running is None else os.fstat(_running.link.fileno()).st_ino


@dataclass(frozen=True, slots=True)
class _Server:
    process: "subprocess.Popen[bytes]"
    link: socket.socket


_running: _Server | None = None
_starting = threading.Lock()


def _server() -> _Server:
    global _running
    if _running is None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.helpers.warm", str(theirs.fileno())],
                cwd=_ROOT, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
            )  # fmt: skip
        _running = _Server(process, ours)
    return _running


# The server.


@dataclass(frozen=True, slots=True)
class _Order:
    module: str
    arguments: Sequence[str]


def _serve(link: socket.socket) -> _Order | None:
    """Fork for each order; returns it in the child, and None when nobody can give one any more."""
    children: dict[int, tuple[int, int]] = {}
    selector = selectors.DefaultSelector()
    selector.register(link, selectors.EVENT_READ)
    listening = True
    while listening or children:
        for key, _ in selector.select():
            if key.fileobj is not link:
                selector.unregister(key.fd)
                pid, tells = children.pop(key.fd)
                _, status = os.waitpid(pid, 0)
                os.write(tells, b"%d" % os.waitstatus_to_exitcode(status))
                os.close(tells)
                os.close(key.fd)
                continue
            order, files, _, _ = socket.recv_fds(link, _ORDER_BYTES_MAX, 4)
            if not order:
                selector.unregister(link)
                listening = False
                continue
            *standard, tells = files
            if (pid := os.fork()) == 0:
                selector.close()
                link.close()
                for pidfd, (_, other) in children.items():
                    os.close(pidfd)
                    os.close(other)
                os.close(tells)
                return _become(json.loads(order), standard)
            os.write(tells, b"%d" % pid)
            pidfd = os.pidfd_open(pid)
            children[pidfd] = (pid, tells)
            selector.register(pidfd, selectors.EVENT_READ)
            for file in standard:
                os.close(file)
    return None


def _become(order: dict[str, Any], standard: Sequence[int]) -> _Order:
    for number, file in enumerate(standard):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(order["env"])
    if order["cwd"] is not None:
        os.chdir(order["cwd"])
    return _Order(order["module"], order["arguments"])


def _import_all() -> None:
    # The mesh imports its library this way, without the parts it does not need.
    libp2p_lean.import_libp2p()
    for found in pkgutil.walk_packages(swarm_hub.__path__, "swarm_hub."):
        # The sandbox's child has a Python of its own, and Alembic imports the migrations.
        if not {"child", "versions", "__main__"} & set(found.name.split(".")):
            importlib.import_module(found.name)
    # Only the thread that forks is in the child.
    tasks = os.listdir("/proc/self/task")
    assert len(tasks) == 1, f"an import started a thread: {tasks}"
    gc.collect()
    gc.freeze()


def main() -> None:
    """Import everything, and be the server; in a forked child run what was ordered."""
    link = socket.socket(fileno=int(sys.argv[1]))
    _import_all()
    order = _serve(link)
    if order is not None:
        sys.argv = [order.module, *order.arguments]
        runpy.run_module(order.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
