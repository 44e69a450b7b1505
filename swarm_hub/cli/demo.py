"""`demo`: a gateway and three workers as real processes, three real jobs, one killed worker."""

import asyncio
import re
import struct
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from swarm_hub.cli.example import examples_dir
from swarm_hub.cli.inspect import with_sandbox
from swarm_hub.cli.options import echo
from swarm_hub.cli.swarm import LocalHub, LocalSwarm, running_swarm
from swarm_hub.client import SwarmClient
from swarm_hub.components.sandbox import Sandbox

_WORKERS: Final = ("amber", "birch", "cedar")
_PRIMES_BELOW: Final = 2_000_000
_PRIMES: Final = 148_933
# On a fast machine the job may be done before the kill hits anything.
_KILL_TRIES: Final = 5
_MOVED_SHOWN: Final = 4
_WORD: Final = re.compile(rb"[A-Za-z0-9_]+")
_NOT_THE_LIBRARY: Final = {"site-packages", "dist-packages", "test", "tests", "idlelib"}
_MODULES: Final = ("sum_i32/sum", "primes/primes", "wordcount/wordcount")


@dataclass(slots=True)
class _Tally:
    """What each worker did, over all jobs."""

    shards: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)

    def add(self, status: dict[str, Any]) -> None:
        """Add a finished job."""
        for share in status["nodes"]:
            self.shards[share["node_id"]] += share["shards"]
            self.attempts[share["node_id"]] += share["attempts"]
            self.seconds[share["node_id"]] += share["wall_s"]


@click.command()
@click.option("--keep", is_flag=True, help="Keep the configuration directories and logs.")
def demo(keep: bool) -> int:
    """Run three real jobs on a small swarm on this machine; exit 0 only if all are right."""
    started = time.monotonic()
    with _folder(keep) as folder:
        right = asyncio.run(_demo(folder))
    took_s = time.monotonic() - started
    if right:
        echo(f"\nAll three answers are right. The demo took {took_s:.1f} s.")
    else:
        echo("\nAn answer was wrong, see above.")
    return 0 if right else 1


async def _demo(folder: Path) -> bool:
    modules = await with_sandbox(_assemble)
    echo(f"Starting a gateway and {len(_WORKERS)} workers, each a process of its own …")
    async with running_swarm(folder, _WORKERS) as (swarm, client):
        names = {hub.peer_id: hub.name for hub in swarm.hubs}
        echo(f"They have found each other: {', '.join(_WORKERS)}.")
        tally = _Tally()
        right = [
            await _sum_job(client, modules[0], tally),
            await _primes_job(client, modules[1], tally, swarm),
            await _words_job(client, modules[2], tally),
        ]
    _print_table(tally, names)
    return all(right)


async def _sum_job(client: SwarmClient, module: bytes, tally: _Tally) -> bool:
    values = [(number * 7919) % 2_000_003 - 1_000_000 for number in range(10_000)]
    echo("\n1. The sum of 10,000 int32, by the i32-array abi")
    job_id = await client.submit(module, struct.pack("<10000i", *values), split="i32")
    status = await _finished(client, job_id, tally)
    return _judge(status.get("result"), sum(values))


async def _primes_job(client: SwarmClient, module: bytes, tally: _Tally, swarm: LocalSwarm) -> bool:
    echo(f"\n2. Primes below {_PRIMES_BELOW:,}, while a busy worker is killed")
    for _ in range(_KILL_TRIES):
        job_id = await client.submit(module, range(_PRIMES_BELOW), reduce="sum")
        victim = await _busy_worker(client, job_id, swarm)
        if victim is not None:
            victim.kill()
            echo(f"   kill -9 {victim.pid}: {victim.name} was working and is gone")
        status = await _finished(client, job_id, tally)
        if not _judge(status.get("result"), _PRIMES):
            return False
        if _print_moved(await client.shards(job_id), swarm):
            return True
        echo("   the kill came too late to hit a shard; trying once more")
        if victim is not None:
            victim.start()
            await swarm.wait_for_workers(client, len(_WORKERS))
    return False


def _print_moved(shards: Sequence[dict[str, Any]], swarm: LocalSwarm) -> int:
    """Tell which shards went to another worker; returns how many."""
    names = {hub.peer_id: hub.name for hub in swarm.hubs}
    moved = [
        shard for shard in shards if len({attempt["node_id"] for attempt in shard["attempts"]}) > 1
    ]
    for shard in moved[:_MOVED_SHOWN]:
        way = " → ".join(names[attempt["node_id"]] for attempt in shard["attempts"])
        echo(f"   shard {shard['index']} went to another worker: {way}")
    if len(moved) > _MOVED_SHOWN:
        echo(f"   … and {len(moved) - _MOVED_SHOWN} more")
    return len(moved)


async def _words_job(client: SwarmClient, module: bytes, tally: _Tally) -> bool:
    files = await asyncio.to_thread(_library_files)
    text = b"".join(body if body.endswith(b"\n") else body + b"\n" for body in files)
    echo(
        f"\n3. Words in Python's standard library: {len(files)} files, "
        f"{len(text) / 1e6:.1f} MB, by the wasi abi"
    )
    job_id = await client.submit(module, text, split="lines", reduce="json")
    counted = asyncio.create_task(asyncio.to_thread(_count_words, text))
    status = await _finished(client, job_id, tally)
    found = status.get("result")
    expected = await counted
    if found is not None:
        most = sorted(found.items(), key=lambda item: -item[1])[:4]
        echo("   most frequent: " + ", ".join(f"{word} {count}" for word, count in most))
        echo(f"   {sum(found.values()):,} words, {len(found):,} different")
    right = found == expected
    echo(f"   {'equal to' if right else 'NOT equal to'} the count in plain Python")
    return right


async def _finished(client: SwarmClient, job_id: str, tally: _Tally) -> dict[str, Any]:
    async with asyncio.timeout(120):
        status = await client.wait(job_id)
    tally.add(status)
    progress = status["progress"]
    echo(
        f"   {status['state']} in {status['duration_s']:.2f} s: {progress['shards']} shards, "
        f"{progress['retries']} retries"
    )
    for failure in status["failures"]:
        echo(f"   failure: {failure}")
    return status


async def _busy_worker(client: SwarmClient, job_id: str, swarm: LocalSwarm) -> LocalHub | None:
    """Return a worker that holds shards of a running job; None if the job is already done."""
    by_id = {hub.peer_id: hub for hub in swarm.hubs}
    async with asyncio.timeout(30):
        while True:
            status = await client.status(job_id)
            if status["progress"]["shards_done"] > 0:
                for node in await client.nodes():
                    if node["assignments"] > 1 and node["node_id"] in by_id:
                        return by_id[node["node_id"]]
            if status["state"] == "completed":
                return None
            await asyncio.sleep(0.01)


async def _assemble(sandbox: Sandbox) -> list[bytes]:
    examples = examples_dir()
    texts = [(examples / f"{name}.wat").read_text(encoding="utf-8") for name in _MODULES]
    return [await sandbox.assemble(text) for text in texts]


def _library_files() -> list[bytes]:
    library = Path(sysconfig.get_path("stdlib"))
    return [
        path.read_bytes()
        for path in sorted(library.rglob("*.py"))
        if not _NOT_THE_LIBRARY.intersection(path.relative_to(library).parts)
    ]


def _count_words(text: bytes) -> dict[str, int]:
    return {word.decode(): count for word, count in Counter(_WORD.findall(text)).items()}


def _judge(found: Any, expected: int) -> bool:
    right = bool(found == expected)
    echo(f"   answer {found}, {'right' if right else f'WRONG: expected {expected}'}")
    return right


def _print_table(tally: _Tally, names: dict[str, str]) -> None:
    table = Table(title="What each worker did", title_justify="left")
    table.add_column("worker")
    for column in ("shards", "retries or lost", "seconds of work"):
        table.add_column(column, justify="right")
    for peer_id, name in names.items():
        if name in _WORKERS:
            shards = tally.shards[peer_id]
            lost = tally.attempts[peer_id] - shards
            table.add_row(name, str(shards), str(lost), f"{tally.seconds[peer_id]:.2f}")
    Console().print(table)


@contextmanager
def _folder(keep: bool) -> Iterator[Path]:
    if keep:
        folder = Path(tempfile.mkdtemp(prefix="swarm-hub-demo-"))
        echo(f"Everything stays in {folder}")
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="swarm-hub-demo-") as name:
        yield Path(name)
