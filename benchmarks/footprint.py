"""What idle hubs cost: memory, CPU, start-up."""

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from figures import Figures, start

from swarm_hub.cli.inspect import with_sandbox
from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient

_ROOT = Path(__file__).parents[1]
_MIB = 1024 * 1024


async def main() -> None:
    """Start a gateway and a worker, let them rest, and look."""
    figures, arguments = start(__doc__ or "")
    module = await with_sandbox(
        lambda sandbox: sandbox.assemble((_ROOT / "examples/primes/primes.wat").read_text())
    )
    with tempfile.TemporaryDirectory(prefix="swarm-hub-bench-") as folder:
        swarm = LocalSwarm(Path(folder))
        try:
            started = time.monotonic()
            gateway = swarm.start_gateway()
            await _until(lambda: "is ready" in gateway.log())
            ready_s = time.monotonic() - started
            async with SwarmClient(gateway.url, gateway.token) as client:
                await _until(lambda: "Listening on" in gateway.log())
                started = time.monotonic()
                worker = swarm.start_worker("worker", gateway)
                await swarm.wait_for_workers(client, 1)
                joined_s = time.monotonic() - started
                await client.map(module, range(100_000), reduce="sum")
                await asyncio.sleep(8)
                _memory(figures, gateway, worker)
                await _idle_cpu(figures, worker, 20 if arguments.quick else 60)
        finally:
            swarm.stop()
        figures.add("start_to_ready_s", ready_s, "s", target=3)
        figures.add("start_to_joined_s", joined_s, "s")
        if not arguments.quick:
            _install(figures, Path(folder))


def _memory(figures: Figures, gateway: LocalHub, worker: LocalHub) -> None:
    for figure, pid, target in (
        ("gateway_idle_rss_mb", gateway.pid, None),
        ("worker_idle_rss_mb", worker.pid, 115.0),
    ):
        figures.add(figure, psutil.Process(pid).memory_info().rss / _MIB, "MiB", target=target)
    children = psutil.Process(worker.pid).children()
    sizes = [child.memory_info().rss / _MIB for child in children]
    figures.add("sandbox_child_rss_mb", max(sizes), "MiB", children=len(sizes))


async def _idle_cpu(figures: Figures, worker: LocalHub, seconds: float) -> None:
    process = psutil.Process(worker.pid)
    before, started = process.cpu_times(), time.monotonic()
    await asyncio.sleep(seconds)
    after, took_s = process.cpu_times(), time.monotonic() - started
    spent_s = after.user + after.system - before.user - before.system
    figures.add("worker_idle_cpu_percent", 100 * spent_s / took_s, "%", target=0.5, over_s=seconds)


def _install(figures: Figures, folder: Path) -> None:
    clone = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(_ROOT), str(clone)], check=True)
    started = time.monotonic()
    subprocess.run(["script/setup"], cwd=clone, check=True, stdout=subprocess.DEVNULL)
    figures.add("install_s", time.monotonic() - started, "s")


async def _until(right: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not right():
        if time.monotonic() > deadline:
            raise SystemExit(f"nothing after {timeout_s} s")
        await asyncio.sleep(0.005)


if __name__ == "__main__":
    asyncio.run(main())
