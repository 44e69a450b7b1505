"""Python programs in the sandbox: a start, a call of a tiny program, items a second of a hub.

The runtime has to be installed: pip install 'swarm-hub[python]'. That it is compiled first is not
measured here.

Functions by `swarm.map` stand beside the same functions in a `ProcessPoolExecutor` of this machine,
with as many processes as there are cores, in turns. The pool is warm and runs native code in
processes that trust each other. With --peers the pools of Dask and Ray take turns too, if they are
installed in this Python.
"""

import argparse
import asyncio
import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import psutil
from figures import Figures, start
from python_functions import ten_ms, tiny

from swarm_hub.cli.swarm import LocalSwarm
from swarm_hub.client import SwarmClient
from swarm_hub.components.runtimes import Runtime
from swarm_hub.components.runtimes.catalog import find
from swarm_hub.components.sandbox import OK, Call, CallResult, Limits, Sandbox
from swarm_hub.tasks import TaskSupervisor

_MIB: Final = 1024 * 1024
_LIMITS: Final = Limits(128 * _MIB, 60.0, 16 * _MIB)
_TINY: Final = ("tiny.py", b"print(len(input()))\n")
_LINES: Final = (
    "lines.py",
    b"import sys\ndef f(x):\n    return len(x.strip())\nprint(sum(map(f, sys.stdin)))\n",
)
_STARTS: Final = 5
# What a pool is given at a time; the hub finds its own.
_CHUNKS: Final = 4
_RUNTIMES: Final = "runtimes: {javascript: false}\n"


def _peers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peers", action="store_true", help="compare with Dask and Ray as well")


async def main() -> None:
    """Measure in a sandbox first, then through a gateway and two workers."""
    figures, arguments = start(__doc__ or "", _peers)
    with tempfile.TemporaryDirectory(prefix="swarm-hub-bench-") as folder:
        here = Path(folder)
        runtime = find("python", True, {}, here)
        if runtime is None:
            raise SystemExit("Python is not there: pip install 'swarm-hub[python]'")
        ahead = await _in_a_sandbox(figures, here, runtime, 300 if arguments.quick else 3000)
        async with _running(here, ahead) as client:
            n_rounds = 1 if arguments.quick else 3
            await _through_a_hub(figures, client, 1000 if arguments.quick else 20_000, n_rounds)
            works = _QUICK if arguments.quick else _WHOLE
            await _beside_pools(figures, client, works, n_rounds, arguments.peers)


async def _in_a_sandbox(figures: Figures, here: Path, runtime: Runtime, n_calls: int) -> Path:
    tasks = TaskSupervisor()
    sandbox = Sandbox(cache_dir=here / "cache", slots=1, spawn=tasks.spawn)
    sandbox.compile_ahead(256 * _MIB, 600.0, 1024 * _MIB)
    await sandbox.start()
    try:
        await sandbox.prepare(runtime.sha, runtime.read, deterministic=False)
        await sandbox.warm()
        language = runtime.language
        name, source = _TINY
        starts = []
        for number in range(_STARTS):
            call = Call(
                runtime.sha, language.abi, None, _LIMITS, (f"/script/{name}", str(number)),
                language.env, script=(name, language.script(name, source)), scope=str(number),
            )  # fmt: skip
            started = time.perf_counter()
            await _run(sandbox, call, runtime)
            starts.append(time.perf_counter() - started)
        figures.add("python_start_ms", 1000 * median(starts), "ms", of=_STARTS)
        walls, cpus = [], []
        for _ in range(n_calls):
            started = time.perf_counter()
            outcome = await _run(sandbox, call, runtime)
            walls.append(time.perf_counter() - started)
            cpus.append(outcome.cpu_s)
        figures.add("python_call_ms", 1000 * median(walls), "ms", target=3, of=n_calls)
        figures.add("python_call_cpu_ms", 1000 * median(cpus), "ms", of=n_calls)
        largest = max(psutil.Process(pid).memory_info().rss for pid in sandbox.stats().pids)
        figures.add("python_child_rss_mb", largest / 1e6, "MB")
    finally:
        await sandbox.stop()
    return here / "cache" / "ahead"


async def _run(sandbox: Sandbox, call: Call, runtime: Runtime) -> CallResult:
    outcome = await sandbox.run(call, b"hello\n", runtime.read)
    if outcome.code != OK:
        raise SystemExit(f"{outcome.code}: {outcome.text}")
    return outcome


@asynccontextmanager
async def _running(here: Path, ahead: Path) -> AsyncIterator[SwarmClient]:
    swarm = LocalSwarm(here)
    try:
        gateway = swarm.start_gateway(extra=_RUNTIMES)
        async with SwarmClient(gateway.url, gateway.token) as client:
            for number in range(2):
                worker = f"worker-{number}"
                target = here / worker / ".storage" / "wasm-cache" / "ahead"
                shutil.copytree(ahead, target)
                swarm.start_worker(worker, gateway, extra=_RUNTIMES)
            await swarm.wait_for_workers(client, 2)
            yield client
    finally:
        swarm.stop()


async def _through_a_hub(
    figures: Figures, client: SwarmClient, n_items: int, n_rounds: int
) -> None:
    # So that the speed of both is known.
    await _per_s(client, _LINES, 2000, None)
    rates = [await _per_s(client, _LINES, 10 * n_items, None) for _ in range(n_rounds)]
    figures.add(
        "python_items_per_s", median(rates), "1/s", better="higher", target=1000,
        items=10 * n_items,
    )  # fmt: skip
    rates = [await _per_s(client, _TINY, n_items, 1) for _ in range(n_rounds)]
    figures.add("python_shards_per_s", median(rates), "1/s", better="higher", shards=n_items)


Map = Callable[[Callable[[int], int], range], Any]


class _Work(NamedTuple):
    """A function, what it is called for, and the name of its figures."""

    function: Callable[[int], int]
    items: range
    name: str


_THOUSAND: Final = _Work(tiny, range(1000), "tiny")
_QUICK: Final = (_THOUSAND, _Work(ten_ms, range(100), "ten_ms"))
_WHOLE: Final = (
    _THOUSAND,
    _Work(ten_ms, range(1000), "ten_ms"),
    _Work(tiny, range(200_000), "many_tiny"),
)


async def _beside_pools(
    figures: Figures, client: SwarmClient, works: Sequence[_Work], n_rounds: int, peers: bool
) -> None:
    """Map functions on each system in turns; one that is not installed is named."""
    cores = len(os.sched_getaffinity(0))
    async with AsyncExitStack() as stack:
        pool = stack.enter_context(ProcessPoolExecutor(cores))
        systems: dict[str, Map] = {"pool": _mapping(pool, cores)}
        for package, load in (("distributed", _on_dask), ("ray", _on_ray)) if peers else ():
            if importlib.util.find_spec(package) is None:
                figures.say(package, {"missing": "it is not installed in this Python"})
            else:
                systems[package] = load(stack, cores)
        for work in works:
            for system, taken in (await _in_turns(client, systems, work, n_rounds)).items():
                figure, rate = f"python_{work.name}_{system}", len(work.items) / median(taken)
                figures.add(f"{figure}_per_s", rate, "1/s", better="higher", items=len(work.items))
                figures.add(f"{figure}_ms", 1000 / rate, "ms", cores=cores)


async def _in_turns(
    client: SwarmClient, systems: Mapping[str, Map], work: _Work, n_rounds: int
) -> dict[str, list[float]]:
    """Return how many seconds each system took in each round."""
    function, items, _ = work
    expected = await asyncio.to_thread(systems["pool"], function, items)
    seconds: dict[str, list[float]] = {each: [] for each in ("swarm", *systems)}
    # A round that is not counted lets each system start and the hub learn the rate.
    for number in range(n_rounds + 1):
        for system, taken in seconds.items():
            started = time.perf_counter()
            if system == "swarm":
                found = await client.map(function, items)
            else:
                found = await asyncio.to_thread(systems[system], function, items)
            if number:
                taken.append(time.perf_counter() - started)
            assert found == expected, system
    return seconds


def _mapping(pool: Executor, cores: int) -> Map:
    def on_pool(function: Callable[[int], int], items: range) -> list[int]:
        return list(pool.map(function, items, chunksize=-(-len(items) // (_CHUNKS * cores))))

    return on_pool


def _batches(items: range, cores: int) -> Iterable[range]:
    size = -(-len(items) // (_CHUNKS * cores))
    return [items[first : first + size] for first in range(0, len(items), size)]


def _each(function: Callable[[int], int], items: range) -> list[int]:
    return [function(item) for item in items]


def _on_dask(stack: AsyncExitStack, cores: int) -> Map:
    from distributed import Client, LocalCluster

    cluster = stack.enter_context(
        LocalCluster(n_workers=cores, threads_per_worker=1, dashboard_address=None)
    )
    client = stack.enter_context(Client(cluster))

    def on_dask(function: Callable[[int], int], items: range) -> list[int]:
        batches = _batches(items, cores)
        futures = [client.submit(_each, function, batch, pure=False) for batch in batches]
        return [result for part in client.gather(futures) for result in part]

    return on_dask


def _on_ray(stack: AsyncExitStack, cores: int) -> Map:
    import ray

    ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False)
    stack.callback(ray.shutdown)
    each = ray.remote(_each)

    def on_ray(function: Callable[[int], int], items: range) -> list[int]:
        parts = ray.get([each.remote(function, batch) for batch in _batches(items, cores)])
        return [result for part in parts for result in part]

    return on_ray


async def _per_s(
    client: SwarmClient, program: tuple[str, bytes], n_items: int, shard_size: int | None
) -> float:
    """Return how many lines a second a program works off; each job has interpreters of its own."""
    started = time.perf_counter()
    result = await client.map(
        b"", b"hello\n" * n_items, script=program, shard_size=shard_size, reduce="sum"
    )
    assert result == 5 * n_items, result
    return n_items / (time.perf_counter() - started)


if __name__ == "__main__":
    asyncio.run(main())
