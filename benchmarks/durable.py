"""What a small durable job costs in the stores of its gateway and its workers.

Commits and pages are read from SQLite's own index (wal.py), so this costs the hubs nothing. With
`--statements` the hubs count what SQLite runs, which makes them slower.
"""

import argparse
import asyncio
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from figures import Figures, start
from wal import WalMeter, Written

from swarm_hub.cli.inspect import with_sandbox
from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient

_ROOT: Final = Path(__file__).parents[1]
_WORKERS: Final = 4
_WARM_UP_JOBS: Final = 10
_VALUES: Final = list(range(4000))
_COUNTS: Final = "statements.json"
_TOLD_WITHIN_S: Final = 10.0
# Longer than whatever a hub lets wait for the next commit.
_PAUSE_S: Final = 0.7


async def main() -> None:
    """Run jobs of four shards one right after the other, then some with a pause between them."""
    figures, arguments = start(__doc__ or "", _options)
    module = await with_sandbox(
        lambda sandbox: sandbox.assemble((_ROOT / "examples/sum_i32/sum.wat").read_text())
    )
    with tempfile.TemporaryDirectory(prefix="swarm-hub-bench-") as folder:
        swarm = _CountedSwarm(Path(folder)) if arguments.statements else LocalSwarm(Path(folder))
        try:
            gateway = swarm.start_gateway()
            for number in range(_WORKERS):
                swarm.start_worker(f"worker-{number}", gateway)
            async with SwarmClient(gateway.url, gateway.token) as client:
                await swarm.wait_for_workers(client, _WORKERS)
                await _run(client, module, _WARM_UP_JOBS)
                jobs = 50 if arguments.quick else 300
                await _measure(figures, client, module, swarm.hubs, jobs, 0.0, "job")
                apart = 5 if arguments.quick else 20
                await _measure(figures, client, module, swarm.hubs, apart, _PAUSE_S, "lone_job")
        finally:
            swarm.stop()


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--statements", action="store_true", help="also count statements, slowly")


async def _measure(
    figures: Figures,
    client: SwarmClient,
    module: bytes,
    hubs: Sequence[LocalHub],
    jobs: int,
    pause_s: float,
    name: str,
) -> None:
    """Run jobs and print what each cost the gateway, the first hub, and an average worker."""
    meters = [WalMeter(hub.folder / "swarm_hub.db") for hub in hubs]
    cpu_s = [_store_cpu_s(hub.pid) for hub in hubs]
    before = [_statements(hub) for hub in hubs]
    for _ in range(jobs):
        await _run(client, module, 1)
        await asyncio.sleep(pause_s)
        for meter in meters:
            meter.read()
    await asyncio.sleep(_PAUSE_S)
    written = [meter.read() for meter in meters]
    spent_us = [1e6 * (_store_cpu_s(hub.pid) - used) for hub, used in zip(hubs, cpu_s, strict=True)]
    said = [_statements(hub) - known for hub, known in zip(hubs, before, strict=True)]
    # Its shards go to any of the workers, which therefore count together.
    for role, chosen in (("gateway", slice(0, 1)), ("workers", slice(1, None))):
        _add(figures, f"{name}_{role}", jobs, written[chosen], spent_us[chosen], said[chosen])


def _add(
    figures: Figures,
    name: str,
    jobs: int,
    written: Sequence[Written],
    spent_us: Sequence[float],
    said: Sequence[Counter[str]],
) -> None:
    n_hubs = len(written)
    commits = sum(each.commits for each in written) / jobs / n_hubs
    pages = sum(each.pages for each in written) / jobs / n_hubs
    figures.add(f"{name}_commits", commits, "commits", jobs=jobs, hubs=n_hubs)
    figures.add(f"{name}_pages", pages, "pages")
    figures.add(f"{name}_store_cpu_us", sum(spent_us) / jobs / n_hubs, "us")
    counts = sum(said, Counter[str]())
    if counts:
        a_job = {text: round(count / jobs / n_hubs, 2) for text, count in counts.most_common()}
        rows = sum(counts.values()) / jobs / n_hubs
        figures.add(f"{name}_statements", rows, "rows", **a_job)


async def _run(client: SwarmClient, module: bytes, jobs: int) -> None:
    data = struct.pack("<4000i", *_VALUES)
    for _ in range(jobs):
        status = await client.run(module, data, split="i32", shard_size=1000)
        if status["result"] != sum(_VALUES):
            raise SystemExit(f"wrong answer: {status['result']}")


def _store_cpu_s(pid: int) -> float:
    """Return the CPU of the threads that read and write the store."""
    cpu_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().startswith("store-"):
            cpu_ns += int((task / "schedstat").read_text().split()[0])
    return cpu_ns / 1e9


class _CountedHub(LocalHub):
    def start(self) -> None:
        with (self.folder / "hub.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable, str(_ROOT / "benchmarks/counted_hub.py"),
                    str(self.folder / _COUNTS), "run", "-c", str(self.folder),
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip


class _CountedSwarm(LocalSwarm):
    def _new(self, name: str) -> LocalHub:
        hub = super()._new(name)
        counted = _CountedHub(hub.name, hub.folder, hub.peer_id, hub.public_key, hub.mesh_port)
        self.hubs[-1] = counted
        return counted


def _statements(hub: LocalHub) -> Counter[str]:
    """Ask a hub for its counts; none of one that does not count."""
    counts: Counter[str] = Counter()
    if not isinstance(hub, _CountedHub):
        return counts
    file = hub.folder / _COUNTS
    file.unlink(missing_ok=True)
    os.kill(hub.pid, signal.SIGUSR2)
    deadline = time.monotonic() + _TOLD_WITHIN_S
    while not file.exists():
        if time.monotonic() > deadline:
            raise SystemExit(f"{hub.name} does not tell its counts")
        time.sleep(0.01)
    counts.update(json.loads(file.read_text()))
    return counts


if __name__ == "__main__":
    asyncio.run(main())
