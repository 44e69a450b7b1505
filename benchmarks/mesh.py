"""The mesh: what a message costs, how fast bulk moves, and a star of 200 light workers."""

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
from figures import Figures, percentile, start
from machine import tree_cpu_s

from swarm_hub.cli.inspect import with_sandbox
from swarm_hub.cli.swarm import LocalHub, LocalSwarm, free_port
from swarm_hub.client import SwarmClient

_HERE = Path(__file__).parent
_MB = 1_000_000
_WORKERS_MAX = 200
_LIGHT_PROCESSES = 5
_MESSAGE_BYTES = 1024
_SHARD_S = 0.3
_SHARDS_A_WORKER = 4


class LightProcess:
    """A process of light hubs, spoken to in lines (see light.py)."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log.read_text
        self.pid = process.pid

    async def do(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Have it do something and return what that gave."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = json.dumps({"do": what, "with": arguments})
        self._process.stdin.write(f"{line}\n".encode())
        answer = await asyncio.wait_for(self._process.stdout.readline(), 120)
        if not answer:
            raise SystemExit(f"a light process ended while it should {what}: {self._log()}")
        return dict(json.loads(answer))

    async def until(self, name: str, right: Callable[[Any], bool]) -> dict[str, Any]:
        """Wait for a report in which `name` is right."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if right((report := await self.do("report"))[name]):
                return report
            await asyncio.sleep(0.05)
        raise SystemExit(f"{name} did not come about in 120 s")

    def cpu_s(self) -> float:
        """CPU seconds used so far."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)


@contextlib.asynccontextmanager
async def light_process(folder: Path, role: str) -> AsyncIterator[LightProcess]:
    """Start a process of light hubs and end it with the block."""
    with (folder / f"{role}.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(_HERE / "light.py"), str(folder), role,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
        )  # fmt: skip
    try:
        yield LightProcess(process, folder / f"{role}.log")
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def main() -> None:
    """Measure each figure on processes of its own."""
    figures, arguments = start(__doc__ or "")
    with tempfile.TemporaryDirectory(prefix="swarm-hub-bench-") as folder:
        await _messages_and_bulk(figures, Path(folder), arguments.quick)
    with tempfile.TemporaryDirectory(prefix="swarm-hub-bench-") as folder:
        await _stars(figures, Path(folder), arguments.quick)


async def _messages_and_bulk(figures: Figures, folder: Path, quick: bool) -> None:
    for bulk in (True, False):
        place = folder / str(bulk)
        place.mkdir()
        async with light_process(place, "gateway") as gateway, light_process(place, "w") as worker:
            await _join(gateway, worker, "/ip4/127.0.0.1/tcp/0" if bulk else "false")
            if bulk:
                await _messages(figures, gateway, worker, quick)
                await _bulk(figures, gateway, worker, quick)
            else:
                rate = await _fetched(gateway, worker, 16 * _MB)
                figures.add("mesh_stream_mb_per_s", rate, "MB/s", better="higher", mb=16)


async def _join(gateway: LightProcess, worker: LightProcess, bulk: str) -> None:
    port = free_port()
    listen = f"{{listen: [/ip4/127.0.0.1/tcp/{port}], mdns: false, bulk: {bulk}}}"
    key = (await gateway.do("start", count=1, mesh=listen, trust=""))["key"]
    addresses = (await gateway.until("addresses", bool))["addresses"]
    mesh = f"{{listen: [/ip4/127.0.0.1/tcp/0], mdns: false, bootnodes: [{addresses[0]}]}}"
    await worker.do("start", count=1, mesh=mesh, trust=f"'{key}'")
    await worker.until("peers", bool)


async def _messages(
    figures: Figures, gateway: LightProcess, worker: LightProcess, quick: bool
) -> None:
    for inflight, count in ((1, 1000), (32, 20_000), (256, 40_000)):
        count //= 4 if quick else 1
        await worker.do("ping", count=max(inflight, count // 10), inflight=inflight, size=1024)
        other_s = gateway.cpu_s()
        found = await worker.do("ping", count=count, inflight=inflight, size=_MESSAGE_BYTES)
        # Each ping is two messages: there and back.
        cpu_us = (found["cpu_s"] + gateway.cpu_s() - other_s) / count / 2 * 1e6
        figures.add(
            f"cpu_us_per_message_{inflight}", cpu_us, "µs",
            per_s=round(2 * count / found["took_s"]), per_frame=round(found["per_frame"], 1),
        )  # fmt: skip


async def _bulk(figures: Figures, gateway: LightProcess, worker: LightProcess, quick: bool) -> None:
    for megabytes in (1, 16, 50):
        size, rounds = megabytes * _MB, 3 if quick else 7
        raw, mesh = [], []
        for _ in range(rounds):
            port = (await gateway.do("raw_serve", size=size))["port"]
            raw.append(megabytes / (await worker.do("raw_fetch", port=port, size=size))["took_s"])
            mesh.append(await _fetched(gateway, worker, size))
        rate, tcp = percentile(mesh, 0.5), percentile(raw, 0.5)
        name = "" if megabytes == 50 else f"_{megabytes}mb"
        figures.add(
            f"mesh_bulk_mb_per_s{name}", rate, "MB/s", better="higher",
            target=100 if megabytes == 50 else None, raw_tcp=round(tcp), mb=megabytes,
        )  # fmt: skip
        figures.add(f"share_of_raw_tcp{name}", rate / tcp, "", better="higher", mb=megabytes)


async def _fetched(gateway: LightProcess, worker: LightProcess, size: int) -> float:
    sha = (await gateway.do("serve", size=size))["sha"]
    found = await worker.do("fetch", sha=sha, size=size)
    return float(size / _MB / found["took_s"])


async def _stars(figures: Figures, folder: Path, quick: bool) -> None:
    echo = (_HERE.parent / "examples/echo/echo.wat").read_text()
    module = await with_sandbox(lambda sandbox: sandbox.assemble(echo))
    swarm = LocalSwarm(folder)
    try:
        gateway = swarm.start_gateway()
        async with SwarmClient(gateway.url, gateway.token) as client:
            await swarm.wait_for_workers(client, 0)
            await asyncio.sleep(2)
            async with contextlib.AsyncExitStack() as stack:
                processes = []
                for number in range(_LIGHT_PROCESSES):
                    context = light_process(folder, f"light{number}")
                    processes.append(await stack.enter_async_context(context))
                await _grow(figures, gateway, client, module, processes, quick)
    finally:
        swarm.stop()


async def _grow(
    figures: Figures,
    gateway: LocalHub,
    client: SwarmClient,
    module: bytes,
    processes: list[LightProcess],
    quick: bool,
) -> None:
    """Let the star grow to 50, 100 and 200 workers, and look at the gateway each time."""
    hub = psutil.Process(gateway.pid)
    empty_bytes = hub.memory_info().rss
    mesh = f"{{listen: [/ip4/127.0.0.1/tcp/0], mdns: false, bootnodes: [{gateway.address}]}}"
    joined = 0
    for count in (50, 100, _WORKERS_MAX):
        started = time.perf_counter()
        cpu_s = tree_cpu_s([gateway.pid]), sum(process.cpu_s() for process in processes)
        share = (count - joined) // len(processes)
        starting = [
            process.do("start", count=share, mesh=mesh, trust=f"'{gateway.public_key}'")
            for process in processes
        ]
        await asyncio.gather(*starting)
        joined = count
        for process in processes:
            await process.until(
                "peers", lambda peers, count=count: peers >= count // _LIGHT_PROCESSES
            )
        added = share * len(processes)
        figures.add(f"join_{count}_s", time.perf_counter() - started, "s", added=added)
        for side, before_s, after_s in (
            ("gateway", cpu_s[0], tree_cpu_s([gateway.pid])),
            ("worker", cpu_s[1], sum(process.cpu_s() for process in processes)),
        ):
            a_join = (after_s - before_s) / added * 1000
            figures.add(f"join_{count}_{side}_cpu_ms", a_join, "ms a join")
        if quick and count < _WORKERS_MAX:
            # They join in steps all the same: two hundred at once wait for each other's turn.
            continue
        await asyncio.sleep(5)
        kb = (hub.memory_info().rss - empty_bytes) / count / 1024
        figures.add(f"kb_per_peer_{count}", kb, "KiB", rss_mb=hub.memory_info().rss // 2**20)
        before, seconds = hub.cpu_times(), 5 if quick else 20
        await asyncio.sleep(seconds)
        after = hub.cpu_times()
        idle = 100 * (after.user + after.system - before.user - before.system) / seconds
        figures.add(f"gateway_idle_cpu_percent_{count}", idle, "%", workers=count)
        await _dispatch(figures, client, module, processes, count)
        await _serve_all(figures, client, module, processes, count)


async def _dispatch(
    figures: Figures,
    client: SwarmClient,
    module: bytes,
    processes: list[LightProcess],
    count: int,
) -> None:
    times, finished = [], []
    for _ in range(3):
        data, started = os.urandom(_MESSAGE_BYTES * count), time.monotonic()
        job_id = await client.submit(
            module, data, abi="bytes", split="records:1024", shard_size=1, reduce="concat"
        )
        await client.wait(job_id)
        finished.append(time.monotonic() - started)
        if await client.result(job_id) != data:
            raise SystemExit("wrong answer")
        last = max([(await process.do("report"))["last_assigned"] for process in processes])
        times.append(last - started)
    figures.add(
        f"dispatch_all_{count}_ms", min(times) * 1000, "ms",
        with_results_ms=round(min(finished) * 1000), shards=count,
    )  # fmt: skip


async def _serve_all(
    figures: Figures,
    client: SwarmClient,
    module: bytes,
    processes: list[LightProcess],
    count: int,
) -> None:
    """Look how long it takes until each worker has had a shard of a job with plenty of them."""
    for process in processes:
        await process.do("shards_take", seconds=_SHARD_S)
    started = time.monotonic()
    job_id = await client.submit(
        module, os.urandom(_MESSAGE_BYTES * count * _SHARDS_A_WORKER), abi="bytes",
        split="records:1024", shard_size=1, reduce="concat",
    )  # fmt: skip
    reports = [
        await process.until("served", lambda served: served == count // _LIGHT_PROCESSES)
        for process in processes
    ]
    last = max(report["last_served"] for report in reports)
    figures.add(f"serve_all_{count}_ms", (last - started) * 1000, "ms", shard_s=_SHARD_S)
    for process in processes:
        await process.do("shards_take", seconds=0)
    await client.wait(job_id)


if __name__ == "__main__":
    asyncio.run(main())
