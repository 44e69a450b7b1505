"""What an idle worker costs its phone, and an idle gateway its computer, in counters of the kernel.

The bounds are what was reached and a margin; ADR 076 says what is aimed at and what is between.
The hubs start as their users start them: one that is forked has more in memory.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from idle_cost import Counters, counters, memory, rates

from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient
from tests.helpers.swarms import local_swarm

MIB: Final = 1024 * 1024
# Longer than a beat of the mesh; whatever polls more often is in it.
WINDOW_S: Final = 6.0
WAITS_A_SECOND: Final = {"worker": 5.0, "gateway": 8.0}
RSS_MAX_MIB: Final = 86
# CPU from the start until it has joined, in that of a process that only checks the configuration
# and for that imports all of ours and SQLAlchemy, whether or not it finds them compiled.
START_CPU_MAX: Final = 1.8


@pytest.fixture
def swarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalSwarm]:
    # Coverage in these processes would be measured with them.
    for name in [name for name in os.environ if name.startswith("COVERAGE")]:
        monkeypatch.delenv(name)
    made = local_swarm(tmp_path)
    try:
        yield made
    finally:
        made.stop()


async def check_cpu_s(hub: LocalHub) -> float:
    """Return the CPU of a process that checks the configuration of a hub."""
    code = (
        "import pathlib, sys, time\n"
        "from swarm_hub import bootstrap\n"
        "bootstrap.check(pathlib.Path(sys.argv[1]))\n"
        "print(time.process_time())\n"
    )
    command = [sys.executable, "-c", code, str(hub.folder)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
    return float(done.stdout)


async def at_rest(hub: LocalHub, most: float) -> tuple[Counters, Counters]:
    """Return the counters around some seconds in which a hub waited little; fails without any."""
    looks = [counters(hub.pid)]
    async with asyncio.timeout(60):
        while True:
            await asyncio.sleep(0.5)
            looks.append(counters(hub.pid))
            for before in looks:
                if looks[-1].at - before.at < WINDOW_S:
                    break
                if rates(before, looks[-1]).waits <= most:
                    return before, looks[-1]


async def test_idle_hubs_are_woken_seldom_write_nothing_and_are_small(swarm: LocalSwarm) -> None:
    gateway = swarm.start_gateway()
    async with SwarmClient(gateway.url, gateway.token) as client:
        await swarm.wait_for_workers(client, 0)
        worker = swarm.start_worker("worker", gateway)
        await swarm.wait_for_workers(client, 1)
    start_cpu_s = counters(worker.pid).cpu_s
    found = await asyncio.gather(
        *(at_rest(hub, WAITS_A_SECOND[hub.name]) for hub in (worker, gateway))
    )
    for before, after in found:
        assert after.written_bytes == before.written_bytes
    assert memory(worker.pid).rss_bytes / MIB <= RSS_MAX_MIB
    assert start_cpu_s <= START_CPU_MAX * await check_cpu_s(worker)
