"""Jobs from REST submit to result, on real processes over libp2p on 127.0.0.1.

Beside times it prints what a job asks of disk, network and kernel in counts, which load can't blur;
`tests/benchmarks/test_job_counts.py` bounds those that are the same everywhere. `--peers` compares
with what a user would run instead.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import os
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import peer_runs
from calls import Calls, Counted
from figures import Figures, percentile, start
from idle_cost import counters
from machine import foreign_cores, look, sync_ms, tree_cpu_s
from roles import Meter, Spent
from rounds import ROUNDS, measured, spread, warm_up
from traced import futex_calls

from swarm_hub.cli.inspect import with_sandbox
from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient
from swarm_hub.components.sandbox import Call, Limits, Sandbox
from swarm_hub.const import STORAGE_DIR, TOKENS_FILE
from swarm_hub.helpers.tokens import TokenFile

_EXAMPLES = Path(__file__).parents[1] / "examples"
_WORKERS = 4
_WARM_UP_JOBS = 20
_TRACED_JOBS = 20
_TINY_SHARDS = 5000
_LINES = 1_000_000
_BULK_BYTES = 64 * 1024 * 1024
_BULK_SHARDS = 16


async def main() -> None:
    """Start a gateway with four workers and measure every figure."""
    figures, arguments = start(__doc__ or "", peer_runs.options)
    quick = arguments.quick
    modules = await with_sandbox(_assemble)
    if arguments.peers is not None:
        await peer_runs.compare(figures, arguments, modules)
        return
    with tempfile.TemporaryDirectory(prefix="swarm-hub-bench-") as folder:
        place, hubs = Path(folder), Path(folder) / "hubs"
        hubs.mkdir()
        figures.add("sync_before_ms", sync_ms(place), "ms")
        before, calls, swarm = look(), _calls(place), LocalSwarm(hubs)
        try:
            with calls.counting(hubs) if calls is not None else contextlib.nullcontext():
                gateway = swarm.start_gateway()
                for number in range(_WORKERS):
                    swarm.start_worker(f"worker-{number}", gateway)
            async with SwarmClient(gateway.url, gateway.token) as client:
                await swarm.wait_for_workers(client, _WORKERS)
                pids = [hub.pid for hub in swarm.hubs]
                await _small_jobs(client, figures, modules["sum_i32/sum"], pids, calls, quick)
                rate = await _tiny_shards(client, figures, modules["echo/echo"], pids, quick)
                for owners in (2, 3):
                    await _owners(gateway, figures, modules["echo/echo"], owners, rate, quick)
                await _lines(client, figures, modules["wordcount/wordcount"], quick)
                await _bulk(client, figures, modules["bytesum/bytesum"], quick)
                await _compute(client, figures, modules["primes/primes"], pids)
            figures.add("foreign_cores", foreign_cores(before, look()), "cores")
        finally:
            swarm.stop()
        figures.add("sync_after_ms", sync_ms(place), "ms")


def _calls(folder: Path) -> Calls | None:
    try:
        return Calls.build(folder)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return None


async def _assemble(sandbox: Sandbox) -> dict[str, bytes]:
    names = (
        "sum_i32/sum", "echo/echo", "wordcount/wordcount", "bytesum/bytesum", "primes/primes",
    )  # fmt: skip
    return {name: await sandbox.assemble((_EXAMPLES / f"{name}.wat").read_text()) for name in names}


async def _small_jobs(
    client: SwarmClient,
    figures: Figures,
    module: bytes,
    pids: list[int],
    calls: Calls | None,
    quick: bool,
) -> None:
    """Run jobs of four shards one after the other: how long they take, and what they ask for."""
    values = list(range(4000))
    data = struct.pack("<4000i", *values)

    async def jobs(count: int) -> list[float]:
        times = []
        for _ in range(count):
            started = time.perf_counter()
            status = await client.run(module, data, split="i32", shard_size=1000)
            times.append((time.perf_counter() - started) * 1000)
            _expect(status["result"], sum(values))
        return times

    async def median_ms() -> float:
        return percentile(await jobs(_WARM_UP_JOBS), 0.5)

    warm = await warm_up(median_ms)
    count = 20 if quick else 60
    times: list[list[float]] = []
    spent: list[Spent] = []
    before = _counts(pids, calls)
    for _ in range(ROUNDS):
        meter = Meter(pids[0], pids[1:])
        times.append(await jobs(count))
        spent.append(meter.a_job(count))
    after = _counts(pids, calls)
    figures.add_spread(
        "job_latency_p50_ms", spread([percentile(each, 0.5) for each in times]), "ms", target=7,
        rounds=ROUNDS, jobs=ROUNDS * count,
        warm_up=f"{warm.rounds} rounds{'' if warm.stable else ', unstable'}",
    )  # fmt: skip
    figures.add_spread(
        "job_latency_p95_ms", spread([percentile(each, 0.95) for each in times]), "ms"
    )
    for figure, unit, values_of in (
        ("job_cpu_ms", "ms", [each.hubs_ms for each in spent]),
        ("job_gateway_cpu_ms", "ms", [each.gateway_ms for each in spent]),
        ("job_workers_cpu_ms", "ms", [each.worker_ms for each in spent]),
        ("job_children_cpu_ms", "ms", [each.child_ms for each in spent]),
        ("job_client_cpu_ms", "ms", [each.client_ms for each in spent]),
        ("job_time_slices", "slices", [each.time_slices for each in spent]),
    ):
        target = 10 if figure == "job_cpu_ms" else None
        figures.add_spread(figure, spread(values_of), unit, target=target)
    for role in after:
        for what, counted in after[role].items():
            a_job = (counted - before[role][what]) / (ROUNDS * count)
            figures.add(f"job_{role}_{what}", a_job, "a job")
    for role, of_role in (("gateway", pids[:1]), ("workers", pids[1:])):
        traced = await futex_calls(of_role, lambda: jobs(_TRACED_JOBS))
        a_job = None if traced is None else traced / _TRACED_JOBS
        figures.add(f"job_{role}_futex_calls", a_job, "a job", by="strace")


def _counts(pids: list[int], calls: Calls | None) -> dict[str, dict[str, int]]:
    """Return what the gateway, and all workers together, have asked for until now."""
    found = {}
    for role, of_role in (("gateway", pids[:1]), ("workers", pids[1:])):
        found[role] = {"waits": sum(counters(pid).waits for pid in of_role)}
        if calls is not None:
            counted = sum((calls.of_process(pid) for pid in of_role), Counted())
            found[role] |= dataclasses.asdict(counted)
    return found


async def _tiny_shards(
    client: SwarmClient, figures: Figures, module: bytes, pids: list[int], quick: bool
) -> float:
    count = 1000 if quick else _TINY_SHARDS
    data = os.urandom(1024 * count)
    cpu_ms = []

    async def rate() -> float:
        cpu_s, started = tree_cpu_s(pids), time.perf_counter()
        job_id = await client.submit(
            module, data, abi="bytes", split="records:1024", shard_size=1, reduce="concat"
        )
        await client.wait(job_id)
        took_s = time.perf_counter() - started
        cpu_ms.append((tree_cpu_s(pids) - cpu_s) / count * 1000)
        _expect(_sha(await client.result(job_id)), _sha(data))
        return count / took_s

    await warm_up(rate)
    cpu_ms.clear()
    found = await measured(rate)
    figures.add_spread("shards_per_s", found, "shards/s", better="higher", target=4500)
    figures.add_spread("cpu_ms_per_shard", spread(cpu_ms), "ms", target=0.4, shards=count)
    return found.median


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

    async def rate() -> float:
        started = time.perf_counter()
        job_id = await client.submit(module, data, split="lines", reduce="json")
        status = await client.wait(job_id)
        took_s = time.perf_counter() - started
        _expect(status["result"]["more"], count)
        return count / took_s

    found = await measured(rate)
    figures.add_spread("lines_per_s", found, "lines/s", better="higher", target=100_000)


async def _bulk(client: SwarmClient, figures: Figures, module: bytes, quick: bool) -> None:
    size = _BULK_BYTES // (4 if quick else 1)

    async def rate() -> float:
        # Other bytes each time: those that the hub has are not sent again.
        data = os.urandom(size)
        started = time.perf_counter()
        job_id = await client.submit(
            module, data, abi="bytes", split="records:1024", reduce="sum",
            shard_size=size // 1024 // _BULK_SHARDS,
        )  # fmt: skip
        status = await client.wait(job_id)
        took_s = time.perf_counter() - started
        _expect(status["result"], sum(data))
        return size / 1e6 / took_s

    found = await measured(rate)
    figures.add_spread(
        "bulk_mb_per_s", found, "MB/s", better="higher", target=150, mb=size // 2**20
    )


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
        "compute_overhead_cpu_s",
        spent - kernel_s,
        "s",
        target=0.08,
        kernel_s=round(kernel_s, 3),
        shards=16,
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
