"""One process, one configuration directory, one hub: lock file, signals and exit codes."""

import asyncio
import contextlib
import fcntl
import functools
import gc
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from swarm_hub.const import LOCK_FILE, STORAGE_DIR
from swarm_hub.exceptions import ConfigError, HubError
from swarm_hub.util import systemd
from swarm_hub.util.event_loop import new_event_loop
from swarm_hub.util.exhaustion import explain, is_exhausted, last_words
from swarm_hub.util.files import refuse_unwritable

if TYPE_CHECKING:
    from swarm_hub.core import Hub

_LOGGER = logging.getLogger(__name__)

_ACCEPT_ERRORS_EVERY_S: Final = 60.0
_MESH_IS_UP_S: Final = 5.0
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_INTERRUPTED: Final = 130
# Freed to say that there is no memory left; untouched pages are taken from nobody.
_RESERVE_BYTES: Final = 1024 * 1024
_reserve: bytearray | None = None
_last_words = b""


@contextlib.contextmanager
def locked(config_dir: Path) -> Iterator[None]:
    """Hold the directory's lock; raises HubError naming the process that holds it.

    The kernel releases the lock with the process, so a killed hub leaves nothing to clean up.
    """
    path = config_dir / LOCK_FILE
    try:
        refuse_unwritable(config_dir / STORAGE_DIR)
        (config_dir / STORAGE_DIR).mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise unwritable(config_dir, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            raise runs_already(config_dir, holder) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


def unwritable(config_dir: Path, error: OSError) -> HubError:
    """Return what is said of a directory that a hub can't write."""
    return HubError(
        f"{config_dir}: the directory can't be written ({error.strerror}); "
        "give its owner write permission or choose another with -c"
    )


def runs_already(config_dir: Path, holder: str) -> HubError:
    """Return what is said of a directory whose hub runs."""
    return HubError(
        f"{config_dir}: another hub (process {holder}) already runs on this directory; "
        "stop it first or choose another directory with -c"
    )


def run(
    config_dir: Path,
    started_at: float,
    when_ready: "Callable[[Hub], None] | None" = None,
    *,
    safe_mode: bool = False,
    recovers: bool = True,
) -> int:
    """Run a hub until a signal stops it; returns the exit code, 130 if it was not ready by then.

    With a configuration that can't be used it `recovers` if it can (ADR 098).
    """
    # What the start makes lives as long as the hub; to look for garbage in it takes a sixth of its
    # CPU. `_settle_memory` ends that.
    gc.disable()
    # Databases, blobs and whatever else it writes is for its owner alone.
    os.umask(0o077)
    # Its memory has the keys and what others compute here.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Signals are kept until there is a loop to handle them: one that interrupted the making of the
    # loop would leave it half made. A hub also heeds signals that its parent process ignores.
    early: list[int] = []
    hangups = _Hangups()
    for signum in _STOP_SIGNALS:
        signal.signal(signum, lambda signum, _frame: early.append(signum))
    signal.signal(signal.SIGHUP, lambda _signum, _frame: hangups.heard())
    _allow_files()
    global _reserve, _last_words
    _reserve, _last_words = bytearray(_RESERVE_BYTES), last_words()
    threading.excepthook = _thread_failed
    with locked(config_dir):
        try:
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                return runner.run(
                    _run(config_dir, started_at, early, hangups, when_ready, safe_mode, recovers)
                )
        except BaseException as error:
            _end_if_exhausted(error)
            raise


def _end_if_exhausted(error: BaseException) -> None:
    """End this process if an error says that there is no memory; to look at it takes some, too."""
    global _reserve
    _reserve = None
    try:
        exhausted = is_exhausted(error)
    except MemoryError:
        exhausted = True
    if exhausted:
        _end_exhausted(error)
    with contextlib.suppress(MemoryError):
        _reserve = bytearray(_RESERVE_BYTES)


def _end_exhausted(error: BaseException) -> NoReturn:
    """End this process, which gets no more memory or threads, as a kill would.

    To stop in order needs what there is none of; nothing that was acknowledged depends on it.
    """
    try:
        _LOGGER.error("The hub ends: %s", explain(error))
        sys.stderr.flush()
    except Exception:
        os.write(2, _last_words)
    os._exit(1)


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_value is not None:
        _end_if_exhausted(failed.exc_value)
    threading.__excepthook__(failed)


def _allow_files() -> None:
    """Raise the limit of open files as far as this user may: connections are files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(
    config_dir: Path,
    started_at: float,
    early: Sequence[int],
    hangups: "_Hangups",
    when_ready: "Callable[[Hub], None] | None",
    safe_mode: bool,
    recovers: bool,
) -> int:
    # Imported here because it takes most of the start, and signals must be heeded before that.
    from swarm_hub.bootstrap import start_hub

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_of_the_loop())
    hub: Hub | None = None
    broken: HubError | None = None
    while True:
        starting = loop.create_task(
            start_hub(config_dir, safe_mode=safe_mode)
            if broken is None
            else _recovery(config_dir, broken),
            name="start",
        )
        for signum in _STOP_SIGNALS:
            loop.add_signal_handler(signum, _ask_to_stop, starting)
        loop.add_signal_handler(signal.SIGHUP, hangups.heard)
        if early:
            starting.cancel()
        try:
            hub = await starting
        except asyncio.CancelledError:
            _LOGGER.info("The hub was told to stop before it was ready")
            return _INTERRUPTED
        except Exception as error:
            # Before the loop waits for threads that may never end.
            _end_if_exhausted(error)
            # Who has mended a file wants to see why that was not enough.
            mendable = ConfigError if hub is None else HubError
            if not recovers or broken is not None or not isinstance(error, mendable):
                raise
            broken = error
            continue
        if starting.cancelling():
            hub.ask_to_stop()  # The start had finished before it noticed the signal.
        is_recovery, broken = broken is not None, None
        await _live(hub, started_at, hangups, None if is_recovery else when_ready)
        if not hub.starts_again:
            return hub.exit_code
        started_at = time.monotonic()


async def _recovery(config_dir: Path, why: HubError) -> "Hub":
    from swarm_hub.recovery import start_recovery

    return await start_recovery(config_dir, why)


async def _live(
    hub: "Hub",
    started_at: float,
    hangups: "_Hangups",
    when_ready: "Callable[[Hub], None] | None",
) -> None:
    """Let a hub run until it is asked to stop."""
    # The mesh only now imports its library, in its own thread.
    asyncio.get_running_loop().call_later(_MESH_IS_UP_S, _settle_memory)
    systemd.notify("READY=1")
    _LOGGER.info("Hub %s is ready after %.2f s", hub.name, time.monotonic() - started_at)
    hub.tasks.supervise(functools.partial(hangups.follow, hub), "SIGHUP")
    try:
        if when_ready is not None:
            when_ready(hub)
        await hub.wait_asked_to_stop()
    finally:
        _LOGGER.info("Hub %s is stopping", hub.name)
        if not hub.starts_again:
            systemd.notify("STOPPING=1")
        await hub.stop()


class _Hangups:
    """SIGHUP: a reload, however many come while one goes on; a terminal that is closed is the end.

    With nohup it is a reload in either case.
    """

    def __init__(self) -> None:
        self._heard = asyncio.Event()
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._ends_with_terminal = not ignored and _has_terminal()

    def heard(self) -> None:
        """Note one, also before the hub is ready."""
        self._heard.set()

    async def follow(self, hub: "Hub") -> None:
        """Do what they ask for."""
        while True:
            await self._heard.wait()
            self._heard.clear()
            if self._ends_with_terminal and not _has_terminal():
                hub.ask_to_stop()
            elif hub.live_configuration is not None:
                with contextlib.suppress(HubError):  # It is in the log.
                    await hub.live_configuration().reload("SIGHUP")


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _of_the_loop() -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """Return a handler of the loop's errors that ends a hub which gets no more memory.

    Those of `accept` it logs once a minute: when there are no files left, asyncio reports that
    every second for each listening socket, with a traceback.
    """
    logged_at = float("-inf")

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal logged_at
        if (error := context.get("exception")) is not None:
            _end_if_exhausted(error)
        if "socket.accept()" not in str(context.get("message")):
            loop.default_exception_handler(context)
        elif loop.time() - logged_at >= _ACCEPT_ERRORS_EVERY_S:
            logged_at = loop.time()
            _LOGGER.error("Can't accept connections for now: %s", context.get("exception"))

    return handle


def _ask_to_stop(starting: "asyncio.Task[Hub]") -> None:
    if not starting.done():
        # Only once, so that the next signal does not interrupt the cleaning up of a start.
        if not starting.cancelling():
            starting.cancel()
    elif not starting.cancelled() and starting.exception() is None:
        starting.result().ask_to_stop()


def _settle_memory() -> None:
    """Keep the garbage collector away from objects that live as long as the hub.

    Modules and components are some hundred thousand objects; walking them again and again cost
    a tenth of the CPU of a small job.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()
