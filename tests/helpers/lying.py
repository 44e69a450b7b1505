"""Swarms in which some worker processes lie on purpose.

    run = await run_with_liars(tmp_path, 2, 1, Job(module, range(100), {"reduce": "sum"}))
    assert run.result == 100

`Lie` says how they lie. Several jobs on one swarm, for what is learnt over jobs, need
`swarm_with_liars`.
"""

import asyncio
import dataclasses
import json
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient
from tests.helpers.swarms import local_swarm

_COMPONENT: Final = Path(__file__).with_name("liar.py")
_MANIFEST: Final = {
    "domain": "liar", "name": "Liar", "documentation": "none", "version": "1.0.0",
    "dependencies": ["sandbox"],
}  # fmt: skip
_WITHIN_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Lie:
    """How liars lie: see `LiarConfig`."""

    share: float = 1.0
    colluding: bool = False
    seed: int = 0
    honest_first: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """What is submitted."""

    module: bytes
    items: Any
    spec: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a job: its last status, its shards, and who of the nodes lies."""

    status: dict[str, Any]
    shards: list[dict[str, Any]]
    liars: frozenset[str]

    @property
    def result(self) -> Any:
        """The job's result; None unless it completed."""
        return self.status["result"] if self.status["state"] == "completed" else None


@dataclass(frozen=True, slots=True)
class LyingSwarm:
    """A running swarm with its liars' node ids."""

    swarm: LocalSwarm
    client: SwarmClient
    liars: frozenset[str]

    async def run(self, job: Job) -> Run:
        """Run a job to its end, whatever that is."""
        async with asyncio.timeout(_WITHIN_S):
            job_id = await self.client.submit(job.module, job.items, **job.spec)
            status = await self.client.wait(job_id)
        return Run(status, await self.client.shards(job_id), self.liars)


async def run_with_liars(
    folder: Path, n_honest: int, n_lying: int, job: Job, lie: Lie | None = None
) -> Run:
    """Run one job on a swarm of its own."""
    async with swarm_with_liars(folder, n_honest, n_lying, lie) as lying:
        return await lying.run(job)


@asynccontextmanager
async def swarm_with_liars(
    folder: Path, n_honest: int, n_lying: int, lie: Lie | None = None, extra: str = ""
) -> AsyncIterator[LyingSwarm]:
    """Start a gateway (with `extra` configuration) and workers of both kinds, and end them."""
    swarm = local_swarm(folder)
    try:
        gateway = swarm.start_gateway(extra=extra)
        for number in range(n_honest):
            swarm.start_worker(f"honest-{number}", gateway)
        liars = [
            start_liar(swarm, folder, f"liar-{number}", gateway, lie=lie or Lie())
            for number in range(n_lying)
        ]
        async with SwarmClient(gateway.url, gateway.token) as client:
            await swarm.wait_for_workers(client, n_honest + n_lying)
            yield LyingSwarm(swarm, client, frozenset(liar.peer_id for liar in liars))
    finally:
        await asyncio.to_thread(swarm.stop)


def start_liar(
    swarm: LocalSwarm, folder: Path, name: str, *gateways: LocalHub, lie: Lie, extra: str = ""
) -> LocalHub:
    """Start a worker that lies; `folder` is the swarm's, `extra` more of its configuration."""
    home = folder / name / "custom_components" / "liar"
    home.mkdir(parents=True)
    (home / "manifest.json").write_text(json.dumps(_MANIFEST))
    shutil.copy(_COMPONENT, home / "__init__.py")
    # What JSON writes, YAML reads.
    keys = json.dumps(dataclasses.asdict(lie))
    return swarm.start_worker(name, *gateways, extra=f"{extra}liar: {keys}\n")
