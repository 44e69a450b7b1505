"""Processes whose clocks libfaketime sets anew while they run: jobs go on, nobody is banned."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import libfaketime
import pytest

from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient
from tests.conftest import up_nodes

LIBRARY = next(Path(libfaketime.__file__).parent.rglob("libfaketime.so.1"))
JUMPS_S = (600, -600, 86_400, -86_400)
# The second leads back across the first; script/nightly has the others, too.
TRIED_S = JUMPS_S if os.environ.get("SWARM_HUB_EVERY_FAULT") else (600, -86_400)


class Watch:
    """The clock of one process, to be set by the test."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.set(0)

    def set(self, offset_s: int) -> None:
        """Show so many seconds more than it is."""
        # In one step: the process reads it at each look at its clock.
        fresh = self._path.with_suffix(".new")
        fresh.write_text(f"{offset_s:+d}\n")
        fresh.replace(self._path)

    def environment(self) -> dict[str, str]:
        """Return what a process needs to go by this clock; its other clocks stay real."""
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


async def completes(client: SwarmClient, module: bytes) -> None:
    async with asyncio.timeout(60):
        job_id = await client.submit(module, range(4000), shard_size=200, reduce="count")
        status = await client.wait(job_id, every_s=1)
    assert status["state"] == "completed", status


async def test_jobs_go_on_while_clocks_jump(
    local: LocalSwarm,
    tmp_path: Path,
    modules: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = modules["primes"]
    watches = {name: Watch(tmp_path / f"{name}.time") for name in ("gateway", "worker")}

    def start(name: str, start: Callable[[], LocalHub]) -> LocalHub:
        with monkeypatch.context() as patched:
            for key, value in watches[name].environment().items():
                patched.setenv(key, value)
            return start()

    gateway = start("gateway", local.start_gateway)
    # A device without a battery for its clock, a minute after it was switched on.
    watches["worker"].set(60 - int(time.time()))
    start("worker", lambda: local.start_worker("worker", gateway))
    async with SwarmClient(gateway.url, gateway.token) as client:
        await local.wait_for_workers(client, 1)
        await completes(client, module)
        # It learns the time.
        watches["worker"].set(0)
        await completes(client, module)
        for name, watch in watches.items():
            for jump_s in TRIED_S:
                watch.set(jump_s)
                await completes(client, module)
            watch.set(0)
            await completes(client, module)
            assert await up_nodes(client) == 1, name
        health = await client.health()
        assert health["ok"] is True
        assert any("the clock jumped" in each for each in health["problems"])
    assert "The clock jumped" in gateway.log()
