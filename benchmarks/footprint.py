"""What idle hubs cost: memory, CPU, wake-ups, bytes, start-up, and the disk they take."""

import asyncio
import contextlib
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import psutil
from figures import Figures, start
from idle_cost import counters, memory, rates

from swarm_hub.cli.inspect import with_sandbox
from swarm_hub.cli.swarm import LocalHub, LocalSwarm, free_port
from swarm_hub.client import SwarmClient

_ROOT = Path(__file__).parents[1]
_REQUIREMENTS = _ROOT / "swarm_hub" / "requirements"
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
            bulk_port = free_port()
            gateway = swarm.start_gateway(mesh={"bulk": f"/ip4/127.0.0.1/tcp/{bulk_port}"})
            ports = (gateway.mesh_port, bulk_port)
            await _until(lambda: "is ready" in gateway.log())
            ready_s = time.monotonic() - started
            async with SwarmClient(gateway.url, gateway.token) as client:
                await _until(lambda: "Listening on" in gateway.log())
                started = time.monotonic()
                worker = swarm.start_worker("worker", gateway)
                await swarm.wait_for_workers(client, 1)
                joined_s, joined_cpu_s = time.monotonic() - started, counters(worker.pid).cpu_s
                await client.map(module, range(100_000), reduce="sum")
                # Until the first rounds after the job are over.
                await asyncio.sleep(15)
                _memory(figures, gateway, worker)
                seconds = 20 if arguments.quick else 60
                await _at_rest(figures, gateway, worker, ports, seconds)
        finally:
            swarm.stop()
        figures.add("start_to_ready_s", ready_s, "s", target=3)
        figures.add("start_to_joined_s", joined_s, "s", target=1.5)
        figures.add("start_to_joined_cpu_s", joined_cpu_s, "s")
        _disk(figures)
        if not arguments.quick:
            _install(figures, Path(folder))


def _memory(figures: Figures, gateway: LocalHub, worker: LocalHub) -> None:
    for figure, pid, target in (
        ("gateway_idle_rss_mb", gateway.pid, None),
        ("worker_idle_rss_mb", worker.pid, 70.0),
    ):
        found = memory(pid)
        pss = round(found.pss_bytes / _MIB, 1)
        figures.add(figure, found.rss_bytes / _MIB, "MiB", target=target, pss_mib=pss)
    children = psutil.Process(worker.pid).children()
    sizes = [child.memory_info().rss / _MIB for child in children]
    figures.add("sandbox_child_rss_mb", max(sizes), "MiB", children=len(sizes))


async def _at_rest(
    figures: Figures, gateway: LocalHub, worker: LocalHub, ports: Sequence[int], seconds: float
) -> None:
    hubs = (("worker", worker, 5.0), ("gateway", gateway, 8.0))
    before = [counters(hub.pid) for _, hub, _ in hubs]
    traffic_before = _mesh_bytes(ports)
    await asyncio.sleep(seconds)
    traffic = _mesh_bytes(ports) - traffic_before
    for (name, hub, target), counted in zip(hubs, before, strict=True):
        found = rates(counted, counters(hub.pid))
        waits = round(found.waits, 2)
        figures.add(
            f"{name}_wakeups_per_s", found.time_slices, "/s", target=target, waits_per_s=waits
        )
        most = 0.5 if name == "worker" else None
        figures.add(f"{name}_idle_cpu_percent", found.cpu_percent, "%", target=most, over_s=seconds)
        figures.add(f"{name}_idle_written_bytes", found.written_bytes, "B", target=0)
    per_minute = traffic / 1000 * 60 / seconds
    figures.add("idle_traffic_kb_per_min", per_minute, "kB/min", target=8, ways="both")


def _mesh_bytes(ports: Sequence[int]) -> int:
    """Return what these ports of a gateway have sent and received on connections that are open."""
    of_them = " or ".join(f"sport = :{port}" for port in ports)
    shown = subprocess.run(
        ["ss", "-tinH", "state", "established", f"( {of_them} )"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return sum(int(size) for size in re.findall(r"bytes_(?:sent|received):(\d+)", shown.stdout))


def _disk(figures: Figures) -> None:
    """Measure what the libraries take that a worker needs, with and without its engine."""
    found = {each.name: each for each in _of_a_worker()}
    sizes, bytecode = 0, 0
    for name, each in found.items():
        for file in each.files or ():
            path = Path(str(file.locate()))
            if path.is_file() and name != "wasmtime":
                sizes += path.stat().st_size
                bytecode += path.stat().st_size if path.suffix == ".pyc" else 0
    figures.add(
        "worker_disk_mb", (sizes - bytecode) / 1e6, "MB", target=70,
        without="wasmtime", bytecode_mb=round(bytecode / 1e6, 1), libraries=len(found),
    )  # fmt: skip


def _of_a_worker() -> list[Distribution]:
    """Return the project and what `install.sh` installs for a worker, as far as it is here."""
    lines = (_REQUIREMENTS / "worker.txt").read_text(encoding="utf-8").splitlines()
    found = []
    for name in ("swarm-hub", *(re.split(r"[=; #]", line)[0] for line in lines)):
        # A comment has no name.
        with contextlib.suppress(PackageNotFoundError, ValueError):
            found.append(distribution(name))
    return found


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
