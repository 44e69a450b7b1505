"""A soak: two swarms of real processes under load, struck by faults, then held to every promise.

    python -m tests.soak [MINUTES] [--seed N] [--json] [--postgres] [--gateways N]

(or script/soak, which sets up first). One part has a gateway on SQLite and three workers, the other
two gateways (or N) on one PostgreSQL and three workers that know all of them; with --postgres there
is only that one. All speak libp2p over 127.0.0.1, through TCP proxies of ours.

What duplicates what, and what does not:
- The same request with the same Idempotency-Key is sent twice at once, mostly through different
  gateways, and again after its job has ended. Retries after a timeout do the same.
- A worker whose connection is cut just after it spoke has no answer: it sends its results again,
  signed anew. So do kills of gateways and workers. A late result of a shard that went to another
  node meanwhile comes from delays and freezes.
- A connection of the express plane is cut alone, which ends the session that it belongs to.
- The bytes of an envelope are never repeated on the wire: the connection is encrypted and ordered,
  so that a proxy can't; tests/components/signer replay envelopes inside.

Beside these a poisoner sends what must be refused, one more worker of each part lies about half of
what it is asked, and the clocks of hubs jump by up to a day. Jobs of which the liar may take part
have redundancy 3; the others are for the honest ones. The hubs' own clocks jump, by a component of
the tests; the system's clock stays, which only `faketime` could change for one process.

The server of the second part loses one session or all, crashes, is restarted, and in a soak of four
minutes or more is away for one. A follower of each part hears all events, by the websocket of one
gateway after the other, and must hear every number once.

Among the jobs are some that must not complete: one that never ends, which must fail for that
reason, and some with items on which their module fails, which must fail by these or leave out
exactly these. A job of about a second is submitted every few seconds, and the longest wait for one
is told: all of it, and without the time in which a gateway was killed, starting or frozen.

The seed fixes what is chosen in what order, not who asks when: a second run is alike, not the same.
Exit code 0 only if nothing was lost or counted twice and nothing is left over.
"""

import argparse
import asyncio
import ctypes
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil

from swarm_hub.cli.swarm import LocalHub
from tests.helpers import warm
from tests.helpers.postgres import PostgresServer, running_server
from tests.helpers.swarms import local_swarm, start_warm
from tests.soak.faults import Faults
from tests.soak.follower import Follower
from tests.soak.jobs import assemble
from tests.soak.load import Load
from tests.soak.part import Part
from tests.soak.poison import poison
from tests.soak.stores import Rows, quick_check, sqlite_rows
from tests.soak.verdict import Verdict, judge

_CLIENTS = 3
_PROGRESS_EVERY_S = 10.0
_FINISH_S = 180.0
_SETTLE_S = 60.0
# In a shorter one too little would be left beside it.
_AWAY_FROM_S = 240.0
_AWAY_S = 60.0
_GATEWAYS_MAX = 8
_PR_SET_CHILD_SUBREAPER = 36
_COLUMNS = (
    "jobs", "cancelled", "sent_twice", "shards", "again", "gateway_kills", "worker_kills",
    "freezes", "cuts", "express_cuts", "delays", "backend_kills", "all_backends_kills", "crashes",
    "restarts", "away", "gave_up", "subscriptions", "followed", "poison", "voted",
    "lies", "jumps", "endless", "split", "skipped", "lost", "double",
)  # fmt: skip


def main() -> int:
    """Run the soak of the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__.partition("\n")[0])
    parser.add_argument("minutes", nargs="?", type=float, default=20)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--json", action="store_true", help="one JSON object a part")
    parser.add_argument("--postgres", action="store_true", help="without the part on SQLite")
    parser.add_argument(
        "--gateways", type=int, default=2, choices=range(1, _GATEWAYS_MAX + 1), metavar="N",
        help="how many are on PostgreSQL",
    )  # fmt: skip
    arguments = parser.parse_args()
    gateways = {"sqlite": 1, "postgres": arguments.gateways}
    if arguments.postgres:
        del gateways["sqlite"]
    seed = random.randrange(10**6) if arguments.seed is None else arguments.seed
    _adopt_orphans()
    folder = Path(tempfile.mkdtemp(prefix="swarm-hub-soak-"))
    print(f"soak: seed {seed}, {arguments.minutes:g} minutes", file=sys.stderr, flush=True)
    print(
        "soak: NOT with faketime; clocks jump inside the hubs only (tests/helpers/moved_clock.py)",
        file=sys.stderr, flush=True,
    )  # fmt: skip
    # A hub's imports cost more than all else that a start does, and 20 minutes have many starts.
    LocalHub.start = start_warm  # type: ignore[method-assign]
    parts = asyncio.run(_soak(folder, arguments.minutes * 60, seed, gateways))
    warm.stop()
    left = _left_over()
    failed = bool(left)
    for part, verdict in parts:
        problems = [*part.problems, *(verdict.problems if verdict else ["it was not judged"])]
        failed |= bool(problems) or verdict is None or bool(verdict.lost or verdict.double)
        _print(part, verdict, arguments.minutes, seed, as_json=arguments.json)
        for problem in problems:
            print(f"{part.name}: {problem}", file=sys.stderr)
    for process in left:
        print(f"left over: {process}", file=sys.stderr)
    if failed:
        print(f"soak: FAILED with seed {seed}; logs and stores are in {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


async def _soak(
    folder: Path, duration_s: float, seed: int, gateways: Mapping[str, int]
) -> list[tuple[Part, Verdict | None]]:
    running = asyncio.current_task()
    assert running is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    modules = await assemble()
    with ExitStack() as servers:
        server = await asyncio.to_thread(servers.enter_context, running_server())
        url = await asyncio.to_thread(server.new_database)
        parts = [Part(name, local_swarm(folder / name), folder / name) for name in gateways]
        loads = [Load(part, modules, random.Random(f"{seed} load {part.name}")) for part in parts]
        async with AsyncExitStack() as stack:
            try:
                storage = f"storage: {{url: '{url}'}}\n"
                for part in parts:
                    rng = random.Random(f"{seed} wire {part.name}")
                    kept = storage if part.name == "postgres" else ""
                    await part.start(gateways[part.name], kept, rng, stack)
                database = url.rpartition("/")[2]
                await _strike(parts, loads, modules, duration_s, seed, server, database)
            finally:
                await asyncio.gather(*(part.stop() for part in parts))
        return [
            (part, await asyncio.to_thread(_judged, part, load, server, database))
            for part, load in zip(parts, loads, strict=True)
        ]


async def _strike(
    parts: list[Part],
    loads: list[Load],
    modules: dict[str, bytes],
    duration_s: float,
    seed: int,
    server: PostgresServer,
    database: str,
) -> None:
    """Keep all parts under load and faults for that long, then wait until they are quiet."""
    over = asyncio.Event()
    progress = asyncio.create_task(_progress(parts, loads, duration_s, over))
    clients = [
        asyncio.create_task(client(over))
        for load in loads
        for client in (*[load.client] * _CLIENTS, load.endless_client, load.small_client)
    ]
    followers = {
        part.name: Follower(part, random.Random(f"{seed} follower {part.name}")) for part in parts
    }
    following = [asyncio.create_task(each.run()) for each in followers.values()]
    faults = []
    for part in parts:
        of_store = server if part.name == "postgres" else None
        rng = random.Random(f"{seed} faults {part.name}")
        struck = Faults(part, rng, over, of_store, database)
        faults.append(asyncio.create_task(struck.run()))
        if of_store is not None and duration_s >= _AWAY_FROM_S:
            faults.append(asyncio.create_task(struck.stay_away(duration_s / 3, _AWAY_S)))
    faults += [
        asyncio.create_task(
            poison(part, modules, random.Random(f"{seed} poison {part.name}"), over)
        )
        for part in parts
    ]
    try:
        ended, _ = await asyncio.wait(
            [*clients, *faults, *following], timeout=duration_s, return_when=asyncio.FIRST_EXCEPTION
        )
        over.set()
        for task in ended:
            task.result()
        await asyncio.gather(*faults)
        _, late = await asyncio.wait(clients, timeout=_FINISH_S)
        if late:
            for part, load in zip(parts, loads, strict=True):
                for job in load.jobs:
                    if job.state is None:
                        part.problem(f"{job.module} job {job.job_id} ({job.key}) did not end")
        for task in clients:
            if task not in late:
                task.result()
        await asyncio.gather(*(part.settle(_SETTLE_S) for part in parts))
        for part in parts:
            last_seq = await asyncio.to_thread(_last_seq, part, server, database)
            await followers[part.name].reach(last_seq, _SETTLE_S)
    finally:
        over.set()
        tasks = [progress, *clients, *faults, *following]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _progress(
    parts: list[Part], loads: list[Load], duration_s: float, over: asyncio.Event
) -> None:
    began = time.monotonic()
    told_at = began
    while True:
        await asyncio.sleep(1)
        for part in parts:
            part.look_for_dead()
        if time.monotonic() - told_at < _PROGRESS_EVERY_S:
            continue
        told_at = time.monotonic()
        phase = "finishing" if over.is_set() else f"of {duration_s:.0f} s"
        states = []
        for part, load in zip(parts, loads, strict=True):
            counts = part.counts
            kills = counts["gateway_kills"] + counts["worker_kills"]
            waiting = sum(job.state is None for job in load.jobs)
            states.append(
                f"{part.name} {counts['jobs']} jobs ({waiting} open), {kills} kills, "
                f"{counts['freezes']} freezes, {counts['cuts']} cuts, "
                f"{len(part.problems)} problems"
            )
        print(
            f"soak: {told_at - began:.0f} {phase}: {'; '.join(states)}", file=sys.stderr, flush=True
        )


def _judged(part: Part, load: Load, server: PostgresServer, database: str) -> Verdict | None:
    for hub in part.hubs:
        _read_log(part, hub.name, hub.log())
        path = hub.folder / "swarm_hub.db"
        if path.exists() and (finding := quick_check(path)) is not None:
            part.problem(finding)
    with _rows(part, server, database) as rows:
        return judge(rows, load.jobs)


def _last_seq(part: Part, server: PostgresServer, database: str) -> int:
    with _rows(part, server, database) as rows:
        return int(rows("SELECT max(seq) FROM events")[0][0])


@contextmanager
def _rows(part: Part, server: PostgresServer, database: str) -> Iterator[Rows]:
    if part.name == "sqlite":
        with sqlite_rows(part.gateways[0].folder / "swarm_hub.db") as rows:
            yield rows
        return
    with server.connect(database) as connection:
        yield lambda query: connection.execute(query).fetchall()


def _read_log(part: Part, name: str, log: str) -> None:
    """Note each traceback by its last line."""
    lines = iter(log.splitlines())
    for line in lines:
        if line.startswith("Traceback"):
            # The frames are indented; the first line that is not is the error itself.
            error = next((each for each in lines if each and not each[0].isspace()), "")
            part.problem(f"{name} logged a traceback: {error}")


def _print(
    part: Part, verdict: Verdict | None, minutes: float, seed: int, *, as_json: bool
) -> None:
    found: dict[str, Any] = {column: part.counts[column] for column in _COLUMNS}
    if verdict is not None:
        found |= {
            "shards": verdict.shards,
            "again": verdict.again,
            "lies": verdict.lies,
            "split": verdict.split,
            "skipped": verdict.skipped,
            "lost": verdict.lost,
            "double": verdict.double,
        }
    found = {"part": part.name, "minutes": minutes, **found, **_waits(part)}
    if as_json:
        extra = {key: count for key, count in part.counts.items() if key not in found}
        print(json.dumps({**found, "seed": seed, "context": extra}), flush=True)
        return
    print("  ".join(f"{key} {value}" for key, value in found.items()), flush=True)


def _waits(part: Part) -> dict[str, float]:
    """Return how long small jobs took: the longest, also without what a gateway was away."""
    took_s = sorted(each.took_s for each in part.waits)
    if not took_s:
        return {"small_jobs": 0}
    return {
        "small_jobs": len(took_s),
        "wait_median_s": round(took_s[len(took_s) // 2], 1),
        "wait_longest_s": round(took_s[-1], 1),
        "wait_longest_gateways_up_s": round(
            max(each.took_s - each.away_s for each in part.waits), 1
        ),
    }


def _adopt_orphans() -> None:
    """Become the parent of what killed hubs leave, so that it is found at the end."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _left_over(within_s: float = 10) -> list[str]:
    """Return the processes that outlived the soak, and end them."""
    deadline = time.monotonic() + within_s
    while left := _alive():
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    names = [f"{process.pid} {' '.join(process.cmdline())[:100]}" for process in left]
    for process in left:
        process.kill()
    return names


def _alive() -> list[psutil.Process]:
    is_alive: Callable[[psutil.Process], bool] = lambda each: each.status() != "zombie"  # noqa: E731
    return [each for each in psutil.Process(os.getpid()).children(recursive=True) if is_alive(each)]


if __name__ == "__main__":
    sys.exit(main())
