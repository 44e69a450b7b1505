"""One process, one configuration directory, one hub: lock file, signals and exit codes."""

import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from swarm_hub.bootstrap import start_hub
from swarm_hub.const import LOCK_FILE, STORAGE_DIR
from swarm_hub.exceptions import HubError

_LOGGER = logging.getLogger(__name__)

_MESH_IS_UP_S: Final = 5.0


@contextlib.contextmanager
def locked(config_dir: Path) -> Iterator[None]:
    """Hold the directory's lock; raises HubError naming the process that holds it.

    The kernel releases the lock with the process, so a killed hub leaves nothing to clean up.
    """
    path = config_dir / LOCK_FILE
    try:
        (config_dir / STORAGE_DIR).mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise HubError(
            f"{config_dir}: the directory can't be written ({error.strerror}); "
            "give its owner write permission or choose another with -c"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            raise HubError(
                f"{config_dir}: another hub (process {holder}) already runs on this directory; "
                "stop it first or choose another directory with -c"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


def run(config_dir: Path, started_at: float) -> int:
    """Run a hub until a signal stops it; returns the exit code."""
    with locked(config_dir):
        # Ctrl-C while asyncio makes its loop would leave half of one, which says so in tracebacks.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        return asyncio.run(_run(config_dir, started_at))


async def _run(config_dir: Path, started_at: float) -> int:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    hub = await start_hub(config_dir)
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, hub.ask_to_stop)
    _settle_memory()
    # The mesh imports its library only now, in its own thread.
    loop.call_later(_MESH_IS_UP_S, _settle_memory)
    _LOGGER.info("Hub %s is ready after %.2f s", hub.name, time.monotonic() - started_at)
    try:
        await hub.wait_asked_to_stop()
    finally:
        _LOGGER.info("Hub %s is stopping", hub.name)
        await hub.stop()
    return hub.exit_code


def _settle_memory() -> None:
    """Keep the collector away from what lives as long as the hub.

    Modules and components are some hundred thousand objects; walking them again and again cost
    a tenth of the CPU of a small job.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
