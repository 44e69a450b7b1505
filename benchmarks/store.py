"""What a gateway's store does in a second, with a million rows, after a kill, and over many jobs.

A transition is what a gateway commits for one shard: its assignment is offered (shard, assignment,
event) or its result is counted (shard, assignment, result, event), with the functions and the
grouping that the dispatcher uses.
"""

import argparse
import asyncio
import logging
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import psutil
from figures import Figures, percentile, start
from sqlalchemy import Connection
from transitions import NODE, NOW, Transition, shards_of

from swarm_hub.cli.inspect import with_sandbox
from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient, UnreachableError
from swarm_hub.models.job import Job, JobSpec, JobState, Split
from swarm_hub.storage import Store
from swarm_hub.storage.queries import jobs, leases, recovery
from swarm_hub.util.clock import Clock
from swarm_hub.util.hashing import sha256_hex

_ROOT = Path(__file__).parents[1]
_MIB = 1024 * 1024
_SHA = sha256_hex(b"1")
_SPEC = JobSpec("range", "map", Split.RANGE, 0, "sum")
_MILLION = 1_000_000
_OPEN = 200
# By then the store has been checked in the background, and the mesh listens.
_CHECKED_AFTER_S = 8.0
_ROUNDS = 3
_FEW_JOBS = 4


async def main() -> None:
    """Measure the statements, the million rows and the jobs."""
    figures, arguments = start(__doc__ or "", _options)
    # Each store that is opened would warn of the version of SQLite.
    logging.getLogger("swarm_hub").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="swarm-hub-bench-") as name:
        folder = Path(name)
        seconds = 1.5 if arguments.quick else 6.0
        await _transitions(figures, folder / "transitions", seconds)
        if arguments.postgres:
            await _on_postgres(figures, folder / "postgres", seconds)
        await _million_rows(figures, folder / "million")
        await _many_jobs(figures, folder / "jobs", arguments.quick)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--postgres", action="store_true", help="also on a PostgreSQL of its own")


# Transitions


async def _transitions(figures: Figures, folder: Path, seconds: float) -> None:
    async def opened(name: str) -> Store:
        return Store.on_file(folder / name / "swarm_hub.db", Clock())

    await _rates(figures, opened, seconds)


async def _on_postgres(figures: Figures, folder: Path, seconds: float) -> None:
    # The server of the tests; only a checkout has it.
    sys.path.insert(0, str(_ROOT))
    from tests.helpers.postgres import running_server

    with running_server() as server:

        async def opened(_name: str) -> Store:
            return Store.at(server.new_database(), folder, Clock())

        await _rates(figures, opened, seconds, store="postgres")


async def _rates(
    figures: Figures,
    make: Callable[[str], Awaitable[Store]],
    seconds: float,
    **context: Any,
) -> None:
    for callers in (1, 256):
        store = await make(str(callers))
        await store.open()
        done, took_s, cpu_s = await _run(store, callers, seconds, _FEW_JOBS, _together)
        await store.close()
        _add_rate(figures, callers, done, took_s, cpu_s, context)
    for jobs_shared in (_FEW_JOBS, 64):
        await _compare(figures, make, seconds, jobs_shared, context)


async def _compare(
    figures: Figures,
    make: Callable[[str], Awaitable[Store]],
    seconds: float,
    jobs_shared: int,
    context: dict[str, Any],
) -> None:
    """Let 64 callers commit together and alone, over a few jobs or one each."""
    # In turns, so that both meet the same disk and the same other work of the machine.
    sums = {way: [0.0, 0.0, 0.0] for way in (_together, _alone)}
    for number in range(_ROUNDS):
        for way, so_far in sums.items():
            store = await make(f"{jobs_shared}-{number}-{way.__name__}")
            await store.open()
            measured = await _run(store, 64, seconds / _ROUNDS, jobs_shared, way)
            await store.close()
            for place, value in enumerate(measured):
                so_far[place] += value
    (done, took_s, cpu_s), (done_alone, took_alone_s, _) = sums.values()
    context = {**context, "jobs": jobs_shared}
    _add_rate(figures, 64, done, took_s, cpu_s, context)
    figures.add("cpu_us_per_transition", 1e6 * cpu_s / done, "us", callers=64, **context)
    alone = done_alone / took_alone_s
    figures.add(
        "group_commit_ratio_64", done / took_s / alone, "×", better="higher", target=5,
        one_commit_each_per_s=round(alone), **context,
    )  # fmt: skip


def _add_rate(
    figures: Figures,
    callers: int,
    done: float,
    took_s: float,
    cpu_s: float,
    context: dict[str, Any],
) -> None:
    figures.add(
        f"durable_transitions_per_s_{callers}", done / took_s, "1/s", better="higher",
        cpu_us=round(1e6 * cpu_s / done, 1), **context,
    )  # fmt: skip


Way = Callable[[Store, asyncio.Lock, Transition], Awaitable[None]]


async def _together(store: Store, _turn: asyncio.Lock, transition: Transition) -> None:
    await store.commit(*transition)


async def _alone(store: Store, turn: asyncio.Lock, transition: Transition) -> None:
    """Commit when the one before has committed: a transaction each."""
    async with turn:
        await store.commit(*transition)


async def _run(
    store: Store, callers: int, seconds: float, jobs_shared: int, way: Way
) -> tuple[float, float, float]:
    """Return how many transitions were stored, and in how much time and CPU time."""
    turn = asyncio.Lock()
    began, cpu_s = time.perf_counter(), time.process_time()
    deadline = began + seconds

    async def caller(number: int) -> int:
        for done, transition in enumerate(shards_of(number, callers, jobs_shared)):
            if time.perf_counter() > deadline:
                return done
            await way(store, turn, transition)
        raise AssertionError

    total = sum(await asyncio.gather(*(caller(number) for number in range(callers))))
    return total, time.perf_counter() - began, time.process_time() - cpu_s


@asynccontextmanager
async def _opened(folder: Path) -> AsyncIterator[Store]:
    store = Store.on_file(folder / "swarm_hub.db", Clock())
    await store.open()
    try:
        yield store
    finally:
        await store.close()


# A million rows


async def _million_rows(figures: Figures, folder: Path) -> None:
    """Fill a gateway's store with a job of a million shards, nearly all done."""
    swarm = LocalSwarm(folder)
    gateway = swarm.start_gateway()
    try:
        await _ready(gateway)
    finally:
        swarm.stop()
    job_id = "01KAWG0000000000000000000M"
    database = gateway.folder / "swarm_hub.db"
    async with _opened(gateway.folder) as store:
        module = await with_sandbox(lambda sandbox: sandbox.assemble(_primes()))
        module_sha, module_row = await store.blobs.put(module, NOW)
        dataset_sha, dataset_row = await store.blobs.put(f"0:{_MILLION}".encode(), NOW)
        job = Job(
            job_id, JobState.QUEUED, _SPEC, module_sha, len(module), dataset_sha, _MILLION, 9, 0,
            time.time(), "owner",
        )  # fmt: skip
        row = jobs.submit(job, gateway.peer_id, 1, None, "")
        await store.commit([module_row, dataset_row, row, jobs.start([job_id], time.time())])
        await asyncio.to_thread(_fill, database, job_id)
        await _query_times(figures, store, job_id, gateway.peer_id)
    figures.add("store_mb_1m", database.stat().st_size / _MIB, "MiB")
    await _start_after_a_kill(figures, swarm, gateway, job_id)


def _fill(database: Path, job_id: str) -> None:
    """Write the rows of a million shards as the hub would, all but the last ones done."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        done = _MILLION - _OPEN
        connection.executemany(
            "INSERT INTO shards VALUES (?, ?, ?, ?, 1, 1, ?)",
            (
                (job_id, index, "done", index, f"{job_id}.{index}.1")
                if index < done
                else (job_id, index, "assigned", index, None)
                for index in range(_MILLION)
            ),
        )
        connection.executemany(
            "INSERT INTO assignments VALUES (?, ?, 1, ?, ?, NULL, ?, ?)",
            (
                (job_id, index, NODE, "finished" if index < done else "offered", NOW, NOW)
                for index in range(_MILLION)
            ),
        )
        connection.executemany(
            "INSERT INTO results (assignment_id, job_id, idx, first_item, n_items, node_id, sha, "
            "size_bytes, body, wall_s, cpu_s) VALUES (?, ?, ?, ?, 1, ?, ?, 1, ?, 0.1, 0.1)",
            (
                (f"{job_id}.{index}.1", job_id, index, index, NODE, _SHA, b"1")
                for index in range(done)
            ),
        )
        connection.execute("COMMIT")


async def _query_times(figures: Figures, store: Store, job_id: str, gateway: str) -> None:
    shards = await store.read(recovery.open_shards_of, job_id)
    if len(shards) != _OPEN:
        raise SystemExit(f"{len(shards)} open shards, expected {_OPEN}")
    # A job that has few open shards is the usual one: what is measured is finding them.
    due_ms = await _median_ms(lambda: store.read(recovery.open_shards_of, job_id))
    look_ms = await _median_ms(lambda: store.read(leases.look, gateway))
    nothing_ms = await _median_ms(lambda: store.read(lambda _connection: None))
    figures.add(
        "due_query_ms_1m", due_ms - nothing_ms, "ms", target=1, open_shards=_OPEN,
        hand_over_ms=round(nothing_ms, 3), look_ms=round(look_ms - nothing_ms, 3),
        plan=await store.read(_plan, job_id),
    )  # fmt: skip
    attempts_ms = await _median_ms(lambda: store.read(recovery.open_assignments_of, job_id), 10)
    figures.add("open_assignments_query_ms_1m", attempts_ms - nothing_ms, "ms")
    # Asked once a start; nearly all shards are done, and it must not look at those.
    cutting_ms = await _median_ms(lambda: store.read(recovery.cutting_of, job_id), 10)
    figures.add("cutting_query_ms_1m", cutting_ms, "ms", target=50)


async def _median_ms(read: Callable[[], Awaitable[Any]], times: int = 200) -> float:
    await read()
    took = []
    for _ in range(times):
        began = time.perf_counter()
        await read()
        took.append((time.perf_counter() - began) * 1000)
    return percentile(took, 0.5)


def _plan(connection: Connection, job_id: str) -> str:
    """Return how SQLite runs the query, as it hears it."""
    driver: Any = connection.connection.driver_connection
    said: list[str] = []
    driver.set_trace_callback(said.append)
    recovery.open_shards_of(connection, job_id)
    driver.set_trace_callback(None)
    return "; ".join(row[3] for row in driver.execute(f"EXPLAIN QUERY PLAN {said[-1]}"))


async def _start_after_a_kill(
    figures: Figures, swarm: LocalSwarm, gateway: LocalHub, job_id: str
) -> None:
    """Start the gateway on the large store, kill it, and time the start after that."""
    try:
        gateway.start()
        await _ready(gateway)
        gateway.kill()
        began = time.perf_counter()
        gateway.start()
        await _ready(gateway)
        figures.add("start_s_1m", time.perf_counter() - began, "s", target=3, after="SIGKILL")
        at_start_mb = _rss_mb(gateway)
        async with SwarmClient(gateway.url, gateway.token) as client:
            status = await client.status(job_id)
        done = status["progress"]["shards_done"]
        if done != _MILLION - _OPEN:
            raise SystemExit(f"the job has {done} done shards after the start")
        await asyncio.sleep(_CHECKED_AFTER_S)
        figures.add("rss_mb_1m", _rss_mb(gateway), "MiB", at_start=round(at_start_mb, 1))
    finally:
        swarm.stop()


async def _ready(hub: LocalHub, timeout_s: float = 60) -> None:
    """Return when the hub's API answers."""
    deadline = time.monotonic() + timeout_s
    async with SwarmClient(hub.url, hub.token) as client:
        while True:
            try:
                await client.health()
            except UnreachableError:
                if time.monotonic() > deadline:
                    raise SystemExit(f"no answer after {timeout_s} s:\n{hub.log()}") from None
                await asyncio.sleep(0.01)
            else:
                return


# Many jobs


async def _many_jobs(figures: Figures, folder: Path, quick: bool) -> None:
    """Run jobs of 50 shards one after the other and look at the gateway's memory."""
    first, total, shards = (40, 200, 50) if quick else (200, 2000, 50)
    module = await with_sandbox(lambda sandbox: sandbox.assemble(_primes()))
    swarm = LocalSwarm(folder)
    try:
        gateway = swarm.start_gateway(
            extra="gc: {platform: ttl, completed_after: 20, unread_after: 1h}\n"
        )
        for number in range(2):
            swarm.start_worker(f"worker-{number}", gateway)
        async with SwarmClient(gateway.url, gateway.token) as client:
            await swarm.wait_for_workers(client, 2)
            await _run_jobs(client, module, first, shards)
            before, began = _rss_mb(gateway), time.monotonic()
            await _run_jobs(client, module, total - first, shards)
            figures.add(
                "rss_growth_mb_2000_jobs", _rss_mb(gateway) - before, "MiB", target=20,
                jobs=total, after_first=first, rss_mb=round(before, 1),
                jobs_per_s=round((total - first) / (time.monotonic() - began), 1),
            )  # fmt: skip
            gateway.kill()
            began = time.perf_counter()
            gateway.start()
            await _ready(gateway)
            figures.add(
                "kill_recover_s", time.perf_counter() - began, "s",
                store_mb=round((gateway.folder / "swarm_hub.db").stat().st_size / _MIB, 1),
            )  # fmt: skip
            await swarm.wait_for_workers(client, 2)
            await _run_jobs(client, module, 1, shards)
    finally:
        swarm.stop()


async def _run_jobs(client: SwarmClient, module: bytes, count: int, shards: int) -> None:
    """Run jobs, four at a time."""
    left = iter(range(count))

    async def one_after_the_other() -> None:
        for _ in left:
            job_id = await client.submit(module, range(shards), reduce="sum", shard_size=1)
            status = await client.wait(job_id)
            if status["state"] != "completed":
                raise SystemExit(f"job {job_id} is {status['state']}: {status['failures']}")

    await asyncio.gather(*(one_after_the_other() for _ in range(4)))


def _primes() -> str:
    return (_ROOT / "examples/primes/primes.wat").read_text()


def _rss_mb(hub: LocalHub) -> float:
    return float(psutil.Process(hub.pid).memory_info().rss / _MIB)


if __name__ == "__main__":
    asyncio.run(main())
