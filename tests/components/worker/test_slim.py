"""A worker without what only gateways need: nothing of it is imported, and none of it is missed.

The worker is a process of its own over libp2p, and works on a job.
"""

import asyncio
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient

ROOT = Path(__file__).parents[3]
# What only gateways, commands or other options of libp2p use.
OF_GATEWAYS = (
    "aiohttp", "aioquic", "alembic", "blake3", "coincurve", "Crypto", "dns", "fastecdsa", "grpc",
    "httpx", "miniupnpc", "mmh3", "prometheus_client", "psycopg", "requests", "rich", "segno",
    "zeroconf",
)  # fmt: skip
# What a worker uses where it is there.
OPTIONAL = ("cbor2", "nacl", "psutil")
# Modules that a worker imports, 1,066 on Python 3.11 and two percent; the aim is 750.
MODULES_MAX = 1088
AT_START = """
import atexit, json, os, sys
# A child of the worker starts without this.
del os.environ["PYTHONPATH"]
sys.modules.update(dict.fromkeys({blocked!r}))
sys.path.remove({folder!r})

def tell():
    modules = [name for name, module in sys.modules.items() if module is not None]
    with open({told!r}, "w") as file:
        json.dump(modules, file)

atexit.register(tell)
"""


@dataclass
class Slim:
    """A gateway, and workers that tell what they have imported."""

    folder: Path
    swarm: LocalSwarm
    gateway: LocalHub

    async def imports(
        self, monkeypatch: pytest.MonkeyPatch, module: bytes, blocked: Sequence[str] = ()
    ) -> list[str]:
        """Have a worker work from which some libraries are kept; returns what it imported."""
        told = self.folder / "modules.json"
        (self.folder / "sitecustomize.py").write_text(
            AT_START.format(blocked=tuple(blocked), folder=str(self.folder), told=str(told))
        )
        with monkeypatch.context() as patched:
            patched.setenv("PYTHONPATH", os.pathsep.join((str(self.folder), str(ROOT))))
            worker = self.swarm.start_worker("worker", self.gateway)
        async with SwarmClient(self.gateway.url, self.gateway.token) as client:
            await self.swarm.wait_for_workers(client, 1)
            assert await client.map(module, range(1000), reduce="sum") == 168
        assert worker.process is not None
        worker.process.terminate()
        await asyncio.to_thread(worker.process.wait, 30)
        loaded: list[str] = json.loads(told.read_text())
        return loaded


@pytest.fixture
def slim(tmp_path: Path) -> Iterator[Slim]:
    swarm = LocalSwarm(tmp_path / "swarm")
    try:
        yield Slim(tmp_path, swarm, swarm.start_gateway())
    finally:
        swarm.stop()


async def test_a_worker_imports_nothing_that_only_gateways_need(
    slim: Slim, monkeypatch: pytest.MonkeyPatch, modules: dict[str, bytes]
) -> None:
    loaded = await slim.imports(monkeypatch, modules["primes"])
    assert {name.partition(".")[0] for name in loaded}.isdisjoint(OF_GATEWAYS)
    assert len(loaded) <= MODULES_MAX


async def test_a_worker_works_where_nothing_is_installed_that_it_can_do_without(
    slim: Slim, monkeypatch: pytest.MonkeyPatch, modules: dict[str, bytes]
) -> None:
    blocked = (*OF_GATEWAYS, *OPTIONAL)
    loaded = await slim.imports(monkeypatch, modules["primes"], blocked)
    assert {name.partition(".")[0] for name in loaded}.isdisjoint(blocked)
