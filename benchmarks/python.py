"""Python programs in the sandbox: a start, a call of a tiny program, items a second of a hub.

The runtime has to be installed: pip install 'swarm-hub[python]'. That it is compiled first is not
measured here.
"""

import asyncio
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final

import psutil
from figures import Figures, start

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
_RUNTIMES: Final = "runtimes: {javascript: false}\n"


async def main() -> None:
    """Measure in a sandbox first, then through a gateway and two workers."""
    figures, arguments = start(__doc__ or "")
    with tempfile.TemporaryDirectory(prefix="swarm-hub-bench-") as folder:
        here = Path(folder)
        runtime = find("python", True, {}, here)
        if runtime is None:
            raise SystemExit("Python is not there: pip install 'swarm-hub[python]'")
        ahead = await _in_a_sandbox(figures, here, runtime, 300 if arguments.quick else 3000)
        await _through_a_hub(figures, here, ahead, 3000 if arguments.quick else 20_000)


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


async def _through_a_hub(figures: Figures, here: Path, ahead: Path, n_items: int) -> None:
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
            # So that the speed of both is known.
            await _per_s(client, _LINES, 2000, None)
            rates = [await _per_s(client, _LINES, 10 * n_items, None) for _ in range(3)]
            figures.add(
                "python_items_per_s", median(rates), "1/s", better="higher", target=1000,
                items=10 * n_items,
            )  # fmt: skip
            rates = [await _per_s(client, _TINY, n_items, 1) for _ in range(3)]
            figures.add(
                "python_shards_per_s", median(rates), "1/s", better="higher", shards=n_items
            )
    finally:
        swarm.stop()


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
