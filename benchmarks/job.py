"""Jobs from REST submit to result, on real processes over libp2p on 127.0.0.1."""

import asyncio
import hashlib
import os
import struct
import tempfile
import time
from pathlib import Path
from typing import Any

from figures import Figures, percentile, start, tree_cpu_s
from roles import Meter

from swarm_hub.cli.inspect import with_sandbox
from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient
from swarm_hub.components.sandbox import Call, Limits, Sandbox
from swarm_hub.const import STORAGE_DIR, TOKENS_FILE
from swarm_hub.helpers.tokens import TokenFile

_EXAMPLES = Path(__file__).parents[1] / "examples"
_WORKERS = 4
_WARM_UP_JOBS = 10
_TINY_SHARDS = 5000
_LINES = 1_000_000
_BULK_BYTES = 64 * 1024 * 1024
_BULK_SHARDS = 16


async def main() -> None:
    """Start a gateway with four workers and measure every figure."""
    figures, arguments = start(__doc__ or "")
    modules = await with_sandbox(_assemble)
    with tempfile.TemporaryDirectory(prefix="swarm-hub-bench-") as folder:
        swarm = LocalSwarm(Path(folder))
        try:
            gateway = swarm.start_gateway()
            for number in range(_WORKERS):
                swarm.start_worker(f"worker-{number}", gateway)
            async with SwarmClient(gateway.url, gateway.token) as client:
                await swarm.wait_for_workers(client, _WORKERS)
                pids = [hub.pid for hub in swarm.hubs]
                await _latency(client, figures, modules["sum_i32/sum"], pids, arguments.quick)
                rate = await _tiny_shards(
                    client, figures, modules["echo/echo"], pids, arguments.quick
                )
                for owners in (2, 3):
                    await _owners(
                        gateway, figures, modules["echo/echo"], owners, rate, arguments.quick
                    )
                await _lines(client, figures, modules["wordcount/wordcount"], arguments.quick)
                await _bulk(client, figures, modules["bytesum/bytesum"], arguments.quick)
                await _compute(client, figures, modules["primes/primes"], pids)
        finally:
            swarm.stop()


async def _assemble(sandbox: Sandbox) -> dict[str, bytes]:
    names = (
        "sum_i32/sum", "echo/echo", "wordcount/wordcount", "bytesum/bytesum", "primes/primes",
    )  # fmt: skip
    return {name: await sandbox.assemble((_EXAMPLES / f"{name}.wat").read_text()) for name in names}


async def _latency(
    client: SwarmClient, figures: Figures, module: bytes, pids: list[int], quick: bool
) -> None:
    values = list(range(4000))
    data = struct.pack("<4000i", *values)
    times: list[float] = []
    meter = Meter(pids[0], pids[1:])
    for number in range(60 if quick else 300):
        if number == _WARM_UP_JOBS:
            meter = Meter(pids[0], pids[1:])
        started = time.perf_counter()
        status = await client.run(module, data, split="i32", shard_size=1000)
        took = time.perf_counter() - started
        _expect(status["result"], sum(values))
        if number >= _WARM_UP_JOBS:
            times.append(took * 1000)
    spent = meter.a_job(len(times))
    figures.add("job_latency_p50_ms", percentile(times, 0.5), "ms", target=15, jobs=len(times))
    figures.add("job_latency_p95_ms", percentile(times, 0.95), "ms")
    figures.add("job_cpu_ms", spent.hubs_ms, "ms", target=12)
    figures.add("job_gateway_cpu_ms", spent.gateway_ms, "ms")
    figures.add("job_workers_cpu_ms", spent.worker_ms, "ms", workers=len(pids) - 1)
    figures.add("job_children_cpu_ms", spent.child_ms, "ms")
    figures.add("job_client_cpu_ms", spent.client_ms, "ms")
    figures.add("job_time_slices", spent.time_slices, "slices")


async def _tiny_shards(
    client: SwarmClient, figures: Figures, module: bytes, pids: list[int], quick: bool
) -> float:
    count = 1000 if quick else _TINY_SHARDS
    data = os.urandom(1024 * count)
    for warm in (True, False):
        cpu, started = tree_cpu_s(pids), time.perf_counter()
        job_id = await client.submit(
            module, data, abi="bytes", split="records:1024", shard_size=1, reduce="concat"
        )
        await client.wait(job_id)
        took, cpu = time.perf_counter() - started, tree_cpu_s(pids) - cpu
        _expect(_sha(await client.result(job_id)), _sha(data))
        if not warm:
            figures.add("shards_per_s", count / took, "shards/s", better="higher", target=2000)
            figures.add("cpu_ms_per_shard", cpu / count * 1000, "ms", target=0.8, shards=count)
    return count / took


async def _owners(
    gateway: LocalHub, figures: Figures, module: bytes, owners: int, alone: float, quick: bool
) -> None:
    """Run a job of each of several owners at once, whose shards never share a process."""
    count = 1000 if quick else _TINY_SHARDS
    data = os.urandom(1024 * count)
    tokens = TokenFile(gateway.folder / STORAGE_DIR / TOKENS_FILE)
    secrets = [tokens.create(f"owner-{n}", "submit", time.time())[1] for n in range(owners)]

    async def run(secret: str) -> None:
        async with SwarmClient(gateway.url, secret) as client:
            job_id = await client.submit(
                module, data, abi="bytes", split="records:1024", shard_size=1, reduce="concat"
            )
            await client.wait(job_id)
            _expect(_sha(await client.result(job_id)), _sha(data))

    rates = []
    for _ in range(4):
        started = time.perf_counter()
        await asyncio.gather(*map(run, secrets))
        rates.append(owners * count / (time.perf_counter() - started))
    # In the first round children are started for the owners that are new.
    rate = percentile(rates[1:], 0.5)
    figures.add(
        f"shards_per_s_{owners}_owners", rate, "shards/s", better="higher",
        target=round(alone / 2) if owners == 2 else None, of_one=f"{rate / alone:.0%}",
    )  # fmt: skip


async def _lines(client: SwarmClient, figures: Figures, module: bytes, quick: bool) -> None:
    count = 200_000 if quick else _LINES
    data = b"".join(b"word%d and more\n" % (number % 1000) for number in range(count))
    started = time.perf_counter()
    job_id = await client.submit(module, data, split="lines", reduce="json")
    status = await client.wait(job_id)
    took = time.perf_counter() - started
    _expect(status["result"]["more"], count)
    figures.add("lines_per_s", count / took, "lines/s", better="higher", target=100_000)


async def _bulk(client: SwarmClient, figures: Figures, module: bytes, quick: bool) -> None:
    size = _BULK_BYTES // (4 if quick else 1)
    data = os.urandom(size)
    started = time.perf_counter()
    job_id = await client.submit(
        module, data, abi="bytes", split="records:1024", reduce="sum",
        shard_size=size // 1024 // _BULK_SHARDS,
    )  # fmt: skip
    status = await client.wait(job_id)
    took = time.perf_counter() - started
    _expect(status["result"], sum(data))
    rate = size / 1e6 / took
    figures.add("bulk_mb_per_s", rate, "MB/s", better="higher", target=100, mb=size // 2**20)


async def _compute(client: SwarmClient, figures: Figures, module: bytes, pids: list[int]) -> None:
    async def bare(sandbox: Sandbox) -> float:
        call = Call(_sha(module), "range", None, Limits(2**27, 60, 2**20))
        spent = [
            (await sandbox.run(call, b"0 2000000\n", lambda: _ready(module))).cpu_s
            for _ in range(2)
        ]
        return min(spent)

    kernel_s = await with_sandbox(bare)
    before = tree_cpu_s(pids)
    job_id = await client.submit(module, range(2_000_000), reduce="sum", shard_size=125_000)
    status = await client.wait(job_id)
    _expect(status["result"], 148_933)
    spent = tree_cpu_s(pids) - before
    figures.add(
        "compute_overhead_cpu_s", spent - kernel_s, "s", kernel_s=round(kernel_s, 3), shards=16
    )


async def _ready(module: bytes) -> bytes:
    return module


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _expect(found: Any, expected: Any) -> None:
    if found != expected:
        raise SystemExit(f"wrong answer: {str(found)[:100]}, expected {str(expected)[:100]}")


if __name__ == "__main__":
    asyncio.run(main())
