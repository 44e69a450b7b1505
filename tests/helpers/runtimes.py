"""Runtimes in tests: Python is compiled once for all of them, and kept beside the interpreter."""

import asyncio
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient
from swarm_hub.components.runtimes.catalog import find
from swarm_hub.components.sandbox.pool import Sandbox
from tests.conftest import RunningHub, Swarm
from tests.helpers.sandboxes import MIB, Tasks
from tests.helpers.swarms import local_swarm, start_warm

PYTHON = "runtimes: {javascript: false}\n"
# An interpreter is started for each slot of a job.
_ONE_SLOT = "worker: {slots: 1, charging_only: false, min_battery: 0}\n"

_KEPT = Path(sys.prefix) / "runtimes-of-tests"


async def prepared(name: str, folder: Path) -> Path:
    """Return a folder for `.storage/wasm-cache/ahead` in which a runtime is compiled."""
    runtime = find(name, True, {}, folder)
    assert runtime is not None, f"no {name} runtime is installed"
    kept = _KEPT / f"{name}-{runtime.sha[:16]}"
    tasks = Tasks()
    # It is only copied if another process is not writing it.
    own = folder / "compiles"
    if kept.exists():
        shutil.copytree(kept, own / "ahead")
    sandbox = Sandbox(cache_dir=own, slots=1, spawn=tasks.spawn)
    sandbox.compile_ahead(256 * MIB, 600.0, 1024 * MIB)
    await sandbox.start()
    try:
        if not sandbox.is_prepared(runtime.sha, deterministic=True):
            for deterministic in (False, True):
                await sandbox.prepare(runtime.sha, runtime.read, deterministic=deterministic)
            made = kept.with_name(f"{kept.name}.{folder.name}")
            shutil.copytree(own / "ahead", made)
            shutil.rmtree(kept, ignore_errors=True)
            try:
                made.rename(kept)
            except OSError:
                # Another process was as quick.
                shutil.rmtree(made)
    finally:
        await sandbox.stop()
    return own / "ahead"


def give(ahead: Path, hub_folder: Path) -> None:
    """Have a hub that is not started yet begin with what was compiled."""
    target = hub_folder / ".storage" / "wasm-cache" / "ahead"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(ahead, target)


async def with_python(
    swarm: Swarm, folder: Path, n_workers: int, worker: str = ""
) -> tuple[RunningHub, list[RunningHub]]:
    """Start a gateway that has Python, and workers that have compiled it before."""
    ahead = await prepared("python", folder)
    gateway = await swarm.gateway(extra=PYTHON)
    workers = []
    for number in range(n_workers):
        give(ahead, folder / f"worker-{number}")
        workers.append(await swarm.worker(f"worker-{number}", extra=PYTHON + worker))
    return gateway, workers


@contextmanager
def running_python(folder: Path) -> Iterator[LocalSwarm]:
    """Run a gateway that has Python and a worker, `worker-0`, as processes that tests share."""
    swarm = local_swarm(folder)

    async def start() -> None:
        ahead = await prepared("python", folder)
        gateway = swarm.start_gateway(extra=PYTHON)
        give(ahead, folder / "worker-0")
        swarm.start_worker("worker-0", gateway, extra=PYTHON + _ONE_SLOT)
        async with SwarmClient(gateway.url, gateway.token) as client:
            await swarm.wait_for_workers(client, 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalHub, "start", start_warm)
        try:
            asyncio.run(start())
            yield swarm
        finally:
            swarm.stop()
