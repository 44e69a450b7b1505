"""What several gateways on one PostgreSQL cost, and what they give: row by row.

    python benchmarks/gateways.py [--quick] [--rows jobs,idle,…] [--json] [--statements]

jobs       statements and CPU a job with one gateway and with three, at 8 and 32 clients: 4 workers
           that know all gateways, jobs of 4 shards. All share this machine's cores, so jobs/s say
           how dear a job is, not how many gateways help: what three would give over one with a core
           for each is computed from the CPU of the gateways.
flush      commits/s of 10 stores with one caller each, on a disk whose flush takes 5 ms more
           (`commit_delay`), and without that.
simulated  jobs/s of 10 gateways over 1, each with 10,000 nodes in the store. A gateway is its store
           alone; its other work of a job is a wait of 50 ms, a tenth of a gateway's speed, with a
           flush of 5 ms, a tenth of a disk's.
kill       from SIGKILL of a gateway to the first result of its job that another counts.
orphans    4,000 waiting jobs of a gateway that is gone, until three have taken them over.
idle       rows and statements a second of three gateways at rest with 10,000 nodes in the store.

The server is one of its own, with fsync; it counts the statements (server_counts.py).
"""

import argparse
import asyncio
import itertools
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import server_counts
from figures import Figures, start
from machine import foreign_cores, look, tree_cpu_s
from many_stores import Fleet, rate

from swarm_hub.cli.inspect import with_sandbox
from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient

if TYPE_CHECKING:
    from tests.helpers.postgres import PostgresServer

_ROOT: Final = Path(__file__).parents[1]
_GATEWAYS: Final = 3
_WORKERS: Final = 4
_VALUES: Final = list(range(4000))
_NODES: Final = 10_000
_ORPHANS: Final = 4_000
_SETTLED_WITHIN_S: Final = 75.0
_STATEMENTS_SHOWN: Final = 40
_LOOKS_MAX: Final = 12
_SLOW_FLUSH: Final = ("commit_delay = 5000", "commit_siblings = 0")
_QUICK_FLUSH: Final = ("commit_delay = 0", "commit_siblings = 5")
_ADD_NODES: Final = """
INSERT INTO nodes (peer_id, name, kid, first_seen, last_seen, admission)
SELECT '12D3KooW' || lpad(n::text, 44, 'A'), 'node-' || n, lpad(n::text, 16, '0'),
       extract(epoch FROM now()), extract(epoch FROM now()), 'approved'
FROM generate_series(1, %s) AS n
"""


@dataclass(slots=True)
class Bench:
    """What every row needs."""

    figures: Figures
    server: "PostgresServer"
    quick: bool
    show_statements: bool

    def new_database(self) -> tuple[str, str]:
        """Return the url and the name of a database of one's own."""
        url = self.server.new_database()
        return url, url.rpartition("/")[2]

    def set(self, settings: Sequence[str]) -> None:
        """Change settings of the server."""
        with self.server.connect("postgres") as connection:
            for setting in settings:
                connection.execute(f"ALTER SYSTEM SET {setting}")  # type: ignore[call-overload]
            connection.execute("SELECT pg_reload_conf()")


async def main() -> None:
    """Measure the rows that were asked for."""
    figures, arguments = start(__doc__ or "", _options)
    with server_counts.counting_server() as server:
        # Only a checkout has the tests, which start hubs for a tenth of the CPU.
        from tests.helpers import swarms, warm

        LocalHub.start = swarms.start_warm  # type: ignore[method-assign]
        bench = Bench(figures, server, arguments.quick, arguments.statements)
        try:
            for name in arguments.rows:
                before = look()
                await _ROWS[name](bench)
                foreign = foreign_cores(before, look())
                print(f"{name}: others had {foreign:.2f} cores", file=sys.stderr)
        finally:
            warm.stop()


def _options(parser: argparse.ArgumentParser) -> None:
    def rows(text: str) -> list[str]:
        asked = text.split(",")
        if unknown := set(asked) - set(_ROWS):
            raise argparse.ArgumentTypeError(
                f"no row is called {', '.join(sorted(unknown))}; there are {', '.join(_ROWS)}"
            )
        return asked

    parser.add_argument("--rows", type=rows, default=list(_ROWS), help="some only: NAME,…")
    parser.add_argument(
        "--statements", action="store_true", help="also what is asked most for a job"
    )


@asynccontextmanager
async def _swarm(
    url: str, n_gateways: int, n_workers: int = 0
) -> AsyncIterator[tuple[list[LocalHub], list[SwarmClient]]]:
    """Run gateways on one store and workers that know them all."""
    storage = f"storage: {{url: '{url}'}}\n"
    with tempfile.TemporaryDirectory(prefix="swarm-hub-bench-") as folder:
        swarm = LocalSwarm(Path(folder))
        try:
            gateways = [swarm.start_gateway(f"gateway-{n}", storage) for n in range(n_gateways)]
            async with AsyncExitStack() as stack:
                clients = [
                    await stack.enter_async_context(SwarmClient(hub.url, hub.token))
                    for hub in gateways
                ]
                for client in clients:
                    await swarm.wait_for_workers(client, 0)
                # Workers that dial too early pause for longer than gateways take.
                for number in range(n_workers):
                    swarm.start_worker(f"worker-{number}", *gateways)
                for client in clients:
                    await swarm.wait_for_workers(client, n_workers)
                yield gateways, clients
        finally:
            swarm.stop()


# jobs


@dataclass(frozen=True, slots=True)
class _Load:
    """What jobs cost with so many gateways and clients."""

    jobs_per_s: float
    gateways_ms: float
    server_ms: float
    statements: float
    commits: float
    wal_bytes: float
    size_bytes: float


async def _jobs(bench: Bench) -> None:
    module = await with_sandbox(
        lambda sandbox: sandbox.assemble((_ROOT / "examples/sum_i32/sum.wat").read_text())
    )
    for n_clients in (8, 32):
        loads = {n: await _load(bench, module, n, n_clients) for n in (1, _GATEWAYS)}
        for n_gateways, load in loads.items():
            targets = _TARGETS.get((n_gateways, n_clients), (None, None))
            name = f"{n_gateways}_gateways_{n_clients}_clients"
            bench.figures.add(
                f"statements_a_job_{name}", load.statements, "",
                target=targets[0], transactions=round(load.commits, 1),
                stored_bytes=round(load.size_bytes), wal_bytes=round(load.wal_bytes),
            )  # fmt: skip
            bench.figures.add(
                f"gateways_cpu_ms_a_job_{name}", load.gateways_ms, "ms",
                target=targets[1], server=round(load.server_ms, 1),
                jobs_per_s=round(load.jobs_per_s, 1),
            )  # fmt: skip
        one, three = loads[1], loads[_GATEWAYS]
        bench.figures.add(
            f"three_over_one_shared_cores_{n_clients}", three.jobs_per_s / one.jobs_per_s, "×",
            better="higher",
        )  # fmt: skip
        bench.figures.add(
            f"three_over_one_core_each_{n_clients}",
            _GATEWAYS * one.gateways_ms / three.gateways_ms, "×",
            better="higher", target=1.5, computed="from CPU",
        )  # fmt: skip


# Statements and milliseconds, by gateways and clients.
_TARGETS: Final = {(1, 8): (30, 6), (3, 8): (33, 7)}


async def _load(bench: Bench, module: bytes, n_gateways: int, n_clients: int) -> _Load:
    url, database = bench.new_database()
    async with _swarm(url, n_gateways, _WORKERS) as (gateways, clients):
        await _run(clients, module, n_clients, 2 * n_clients)
        await asyncio.sleep(server_counts.TOLD_AFTER_S)
        server_counts.forget(bench.server)
        pids = [hub.pid for hub in gateways]
        before = server_counts.counted(bench.server, database)
        gateways_s = tree_cpu_s(pids)
        n_jobs = (6 if bench.quick else 40) * n_clients
        began = time.monotonic()
        await _run(clients, module, n_clients, n_jobs)
        took_s = time.monotonic() - began
        gateways_s = tree_cpu_s(pids) - gateways_s
        await asyncio.sleep(server_counts.TOLD_AFTER_S)
        found = server_counts.counted(bench.server, database).since(before)
        if bench.show_statements:
            for line in server_counts.most_called(
                bench.server, database, n_jobs, _STATEMENTS_SHOWN
            ):
                print(line, file=sys.stderr)
        return _Load(
            n_jobs / took_s,
            1000 * gateways_s / n_jobs,
            1000 * found.server_cpu_s / n_jobs,
            found.statements / n_jobs,
            found.commits / n_jobs,
            found.wal_bytes / n_jobs,
            found.size_bytes / n_jobs,
        )


async def _run(clients: Sequence[SwarmClient], module: bytes, n_clients: int, n_jobs: int) -> None:
    """Run jobs of four shards, each client at its gateway, one after the other."""
    left = iter(range(n_jobs))
    items = struct.pack(f"<{len(_VALUES)}i", *_VALUES)

    async def one_after_another(client: SwarmClient) -> None:
        for _ in left:
            status = await client.run(module, items, split="i32", shard_size=1000)
            if status["result"] != sum(_VALUES):
                raise SystemExit(f"wrong answer: {status['result']}")

    turns = itertools.islice(itertools.cycle(clients), n_clients)
    await asyncio.gather(*(one_after_another(client) for client in turns))


# flush, simulated


async def _flush(bench: Bench) -> None:
    for name, settings, target in (
        ("5_ms", _SLOW_FLUSH, 1000), ("0_ms", _QUICK_FLUSH, None),
    ):  # fmt: skip
        bench.set(settings)
        url, _ = bench.new_database()
        fleet = Fleet(url, 10, 1, 0.0, 2.0 if bench.quick else 10.0)
        commits_per_s = await asyncio.to_thread(rate, fleet)
        bench.figures.add(
            f"commits_per_s_flush_{name}", commits_per_s, "1/s", better="higher", target=target,
            stores=fleet.gateways,
        )  # fmt: skip
    bench.set(_QUICK_FLUSH)


async def _simulated(bench: Bench) -> None:
    bench.set(_SLOW_FLUSH)
    rates = []
    for n_gateways in (1, 10):
        url, database = bench.new_database()
        fleet = Fleet(url, n_gateways, 8, 0.05, 3.0 if bench.quick else 15.0)
        # The first one makes the tables.
        await asyncio.to_thread(rate, Fleet(url, 1, 1, 0.0, 0.0))
        with bench.server.connect(database) as connection:
            connection.execute(_ADD_NODES, [n_gateways * _NODES])
        rates.append(await asyncio.to_thread(rate, fleet))
    bench.set(_QUICK_FLUSH)
    bench.figures.add(
        "ten_over_one_simulated", rates[1] / rates[0], "×", better="higher", target=5,
        jobs_per_s=f"{rates[0]:.1f} and {rates[1]:.1f}", nodes=10 * _NODES,
    )  # fmt: skip


# kill, orphans, idle


async def _kill(bench: Bench) -> None:
    from survival import lost_gateway_s

    from tests.helpers.modules import SPIN

    module = await with_sandbox(lambda sandbox: sandbox.assemble(SPIN))
    for _ in range(1 if bench.quick else 3):
        bench.figures.add("killed_gateway_s", await lost_gateway_s(module), "s", target=5)


async def _orphans(bench: Bench) -> None:
    from tests.helpers.orphans import N_LEFT, OWNERS, leave_orphans

    module = await with_sandbox(
        lambda sandbox: sandbox.assemble((_ROOT / "examples/primes/primes.wat").read_text())
    )
    url, name = bench.new_database()
    async with _swarm(url, _GATEWAYS) as (gateways, clients):
        job_id = await clients[0].submit(module, range(100), shard_size=100, reduce="sum")
        with bench.server.connect(name) as database:
            cpu_s = tree_cpu_s([hub.pid for hub in gateways])
            leave_orphans(database, str(job_id), _ORPHANS)
            began = time.monotonic()
            while database.execute(N_LEFT).fetchall()[0][0]:
                if time.monotonic() - began > _SETTLED_WITHIN_S:
                    break
                await asyncio.sleep(0.05)
            took_s = time.monotonic() - began
            cpu_s = tree_cpu_s([hub.pid for hub in gateways]) - cpu_s
            # Those that change hands again have not been taken over for good.
            await asyncio.sleep(3 if bench.quick else 15)
            found = Counter(database.execute(OWNERS).fetchall())
    epochs = sorted({epoch for _, epoch in found})
    bench.figures.add(
        "orphans_taken_over_s", took_s, "s", target=15, orphans=_ORPHANS,
        epochs="/".join(map(str, epochs)), shares="/".join(map(str, sorted(found.values()))),
        gateways_cpu_s=round(cpu_s, 1),
    )  # fmt: skip


async def _idle(bench: Bench) -> None:
    url, database = bench.new_database()
    async with _swarm(url, _GATEWAYS) as (gateways, _clients):
        with bench.server.connect(database) as connection:
            connection.execute(_ADD_NODES, [_NODES])
        pids = [hub.pid for hub in gateways]
        await _at_rest(bench, database)
        before, rows = (
            server_counts.counted(bench.server, database),
            server_counts.rows_read(bench.server, database),
        )
        gateways_s = tree_cpu_s(pids)
        await asyncio.sleep(10 if bench.quick else 60)
        rows = server_counts.rows_read(bench.server, database) - rows
        found = server_counts.counted(bench.server, database).since(before)
        gateways_s = tree_cpu_s(pids) - gateways_s
    bench.figures.add(
        "idle_rows_per_s", rows / found.at, "1/s", target=50, nodes=_NODES,
        gateways=_GATEWAYS, gateways_cpu=f"{100 * gateways_s / found.at:.1f} %",
        server_cpu=f"{100 * found.server_cpu_s / found.at:.1f} %",
    )  # fmt: skip
    bench.figures.add("idle_statements_per_s", found.statements / found.at, "1/s")


async def _at_rest(bench: Bench, database: str) -> None:
    """Return when what a start does once is over: as many statements a second as just before."""
    last, rates = server_counts.counted(bench.server, database), [0.0]
    while len(rates) < _LOOKS_MAX:
        await asyncio.sleep(3)
        now = server_counts.counted(bench.server, database)
        rates.append(now.since(last).statements / now.since(last).at)
        last = now
        if abs(rates[-1] - rates[-2]) <= 0.2 * rates[-1]:
            return


_ROWS: Final[dict[str, Callable[[Bench], Awaitable[None]]]] = {
    "jobs": _jobs,
    "flush": _flush,
    "simulated": _simulated,
    "kill": _kill,
    "orphans": _orphans,
    "idle": _idle,
}


if __name__ == "__main__":
    asyncio.run(main())
