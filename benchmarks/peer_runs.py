"""The same jobs on this hub and on what a user would run instead, in the same run and in turns.

The systems of `peers/` are optional: their packages are in a Python of their own (`nats-py`, `ray`,
`distributed`, `huey`; `--peer-python` or SWARM_HUB_PEER_PYTHON), and NATS has a server
(`--nats-server`, 2.10 or newer for `sync_interval: always`). What is missing is named in the table.
"""

import argparse
import array
import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import psutil
from figures import Figures, percentile
from machine import foreign_cores, look, sync_ms, tree_cpu_s
from rounds import ROUNDS, spread, warm_up

from swarm_hub.cli.swarm import LocalSwarm, free_port
from swarm_hub.client import SwarmClient

_PEERS: Final = Path(__file__).parent / "peers"
_WORKERS: Final = 4
_WARM_UP_JOBS: Final = 20
_ANSWER_WITHIN_S: Final = 120.0
_END_WITHIN_S: Final = 20.0
# What a job may take here, with what it takes on a queue that syncs as ours does.
_TO_NATS_ALWAYS: Final = 1.15


@dataclass(frozen=True, slots=True)
class Kind:
    """A system, and what of the work that it acknowledged survives."""

    name: str
    script: str
    kill_9: str
    power_loss: str
    # Whether it looks for work all the time, and is stopped while it is not its turn.
    polls: bool = False


OURS: Final = Kind(
    "swarm_hub", "", "all, whichever process it is", "all: synced before it is acknowledged"
)
KINDS: Final = (
    Kind(
        "nats", "on_nats.py", "all; a worker's task runs again after ack_wait (30 s)",
        "what is older than sync_interval (2 min)",
    ),
    Kind(
        "nats-always", "on_nats.py", "all; a worker's task runs again after ack_wait (30 s)",
        "all: synced before it is acknowledged",
    ),
    Kind("ray", "on_ray.py", "a worker's task, by retries; not the driver's or the head's", "none"),
    Kind("dask", "on_dask.py", "a worker's task, by retries; not the scheduler's", "none"),
    Kind(
        "huey", "on_huey.py", "what is queued; not the task that a worker ran",
        "what is queued: synced before it is acknowledged", polls=True,
    ),
)  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    """Add what says with which systems this hub is compared, and where they are."""
    names = ",".join(kind.name for kind in KINDS)
    parser.add_argument(
        "--peers", nargs="?", const=names, metavar="NAMES", help=f"compare with {names}, or some"
    )
    parser.add_argument(
        "--peer-python", default=os.environ.get("SWARM_HUB_PEER_PYTHON"), metavar="PATH",
        help="a Python with the packages of the peers",
    )  # fmt: skip
    parser.add_argument("--nats-server", default="nats-server", metavar="PATH")


class System(Protocol):
    """What runs jobs and tasks."""

    async def jobs(self, count: int) -> list[float]:
        """Run jobs of four shards one after the other; returns the milliseconds of each."""

    async def tasks(self, count: int) -> float:
        """Run so many tasks of 1 KiB as fast as they go; returns the seconds."""

    def cpu_s(self) -> float:
        """Return the CPU of all its processes and of its client."""

    def rest(self, resting: bool) -> None:
        """Stop, or go on, while another has its turn."""


class MissingError(Exception):
    """A system can't run here; the message says what it lacks."""


@dataclass(slots=True)
class Found:
    """What the rounds of a system gave."""

    p50_ms: list[float] = field(default_factory=list)
    tasks_per_s: list[float] = field(default_factory=list)
    job_cpu_ms: list[float] = field(default_factory=list)
    task_cpu_ms: list[float] = field(default_factory=list)


class Ours:
    """This hub: a gateway and four workers, each a process, over libp2p."""

    def __init__(self, client: SwarmClient, pids: Sequence[int], total: bytes, same: bytes) -> None:
        self._client, self._pids = client, pids
        self._total, self._same = total, same

    async def jobs(self, count: int) -> list[float]:
        """Run jobs; see `System`."""
        values = array.array("i", range(4000))
        times = []
        for _ in range(count):
            started = time.perf_counter()
            status = await self._client.run(
                self._total, values.tobytes(), split="i32", shard_size=1000
            )
            times.append((time.perf_counter() - started) * 1000)
            if status["result"] != sum(values):
                raise SystemExit(f"wrong answer: {status['result']}")
        return times

    async def tasks(self, count: int) -> float:
        """Run tasks; see `System`."""
        data = b"".join(number.to_bytes(8, "little") * 128 for number in range(count))
        started = time.perf_counter()
        job_id = await self._client.submit(
            self._same, data, abi="bytes", split="records:1024", shard_size=1, reduce="concat"
        )
        await self._client.wait(job_id)
        found = await self._client.result(job_id)
        took_s = time.perf_counter() - started
        if hashlib.sha256(found).digest() != hashlib.sha256(data).digest():
            raise SystemExit("wrong answer")
        return took_s

    def cpu_s(self) -> float:
        """Return the CPU; see `System`."""
        return tree_cpu_s(self._pids) + time.process_time()

    def rest(self, resting: bool) -> None:
        """Nothing to do: it hardly works at rest."""


class Peer:
    """A system of `peers/`, spoken to in lines."""

    def __init__(self, kind: Kind, process: asyncio.subprocess.Process, servers: list[int]) -> None:
        self._kind, self._process = kind, process
        self._pids = [process.pid, *servers]

    async def _do(self, what: str, count: int) -> Any:
        assert self._process.stdin is not None
        line = json.dumps({"do": what, "with": {"count": count}})
        self._process.stdin.write(f"{line}\n".encode())
        return await self.answer()

    async def answer(self) -> Any:
        """Return its next line; raises MissingError with its last words if there is none."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), _ANSWER_WITHIN_S)
        if not line:
            assert self._process.stderr is not None
            said = (await self._process.stderr.read()).decode(errors="replace").strip()
            raise MissingError(said.splitlines()[-1] if said else "it ended")
        return json.loads(line)

    async def jobs(self, count: int) -> list[float]:
        """Run jobs; see `System`."""
        return list((await self._do("jobs", count))["times_ms"])

    async def tasks(self, count: int) -> float:
        """Run tasks; see `System`."""
        return float((await self._do("tasks", count))["took_s"])

    def cpu_s(self) -> float:
        """Return the CPU; see `System`."""
        return tree_cpu_s(self._pids)

    def rest(self, resting: bool) -> None:
        """Stop or go on, if it polls; others hardly work at rest."""
        if self._kind.polls:
            for process in psutil.Process(self._process.pid).children(recursive=True):
                process.suspend() if resting else process.resume()


@contextlib.asynccontextmanager
async def _ours(modules: dict[str, bytes], folder: Path) -> AsyncIterator[Ours]:
    swarm = LocalSwarm(folder)
    try:
        gateway = swarm.start_gateway()
        for number in range(_WORKERS):
            swarm.start_worker(f"worker-{number}", gateway)
        async with SwarmClient(gateway.url, gateway.token) as client:
            await swarm.wait_for_workers(client, _WORKERS)
            pids = [hub.pid for hub in swarm.hubs]
            yield Ours(client, pids, modules["sum_i32/sum"], modules["echo/echo"])
    finally:
        swarm.stop()


@contextlib.asynccontextmanager
async def _peer(kind: Kind, asked: argparse.Namespace, folder: Path) -> AsyncIterator[Peer]:
    if asked.peer_python is None:
        raise MissingError("no --peer-python")
    if shutil.which(asked.peer_python) is None:
        raise MissingError(f"no {asked.peer_python}")
    async with contextlib.AsyncExitStack() as stack:
        servers, where = [], str(folder)
        if kind.name.startswith("nats"):
            always = kind.name == "nats-always"
            server, where = stack.enter_context(_nats_server(asked.nats_server, folder, always))
            servers.append(server)
        process = await asyncio.create_subprocess_exec(
            asked.peer_python, str(_PEERS / kind.script), where,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, limit=2**24,
        )  # fmt: skip
        stack.push_async_callback(_end, process)
        peer = Peer(kind, process, servers)
        await peer.answer()
        yield peer


@contextlib.contextmanager
def _nats_server(program: str, folder: Path, always: bool) -> Any:
    """Run a server with its streams in a folder; gives its pid and its address."""
    if shutil.which(program) is None:
        raise MissingError(f"no {program}")
    port = free_port()
    sync = ", sync_interval: always" if always else ""
    file = folder / "nats.conf"
    file.write_text(f'listen: "127.0.0.1:{port}"\njetstream {{store_dir: "{folder}"{sync}}}\n')
    process = subprocess.Popen(
        [program, "-c", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + _END_WITHIN_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                said = process.communicate()[1].strip()
                raise MissingError(f"{program}: {said.splitlines()[-1] if said else 'no answer'}")
            time.sleep(0.02)
        yield process.pid, f"nats://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Have a system stop; what it started and left is killed."""
    if process.returncode is not None:
        return
    tree = psutil.Process(process.pid).children(recursive=True)
    for child in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.resume()
    assert process.stdin is not None
    process.stdin.close()
    try:
        # It may have something to say, and nobody reads its pipes but this.
        await asyncio.wait_for(process.communicate(), _END_WITHIN_S)
    except TimeoutError:
        process.kill()
        await process.wait()
    for child in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


async def compare(figures: Figures, asked: argparse.Namespace, modules: dict[str, bytes]) -> None:
    """Run this hub and its peers in turns, and print what they took and what that is worth."""
    names = asked.peers.split(",")
    unknown = set(names) - {kind.name for kind in KINDS}
    if unknown:
        raise SystemExit(f"unknown peers {sorted(unknown)}: {', '.join(k.name for k in KINDS)}")
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="swarm-hub-bench-") as folder:
        figures.add("sync_before_ms", sync_ms(Path(folder)), "ms")
        before = look()
        async with contextlib.AsyncExitStack() as stack:
            systems: dict[str, System] = {}
            places = {name: Path(folder) / name for name in (OURS.name, *names)}
            for place in places.values():
                place.mkdir()
            ours = _ours(modules, places[OURS.name])
            systems[OURS.name] = await stack.enter_async_context(ours)
            for kind in KINDS:
                if kind.name in names:
                    try:
                        systems[kind.name] = await stack.enter_async_context(
                            _peer(kind, asked, places[kind.name])
                        )
                        systems[kind.name].rest(True)
                    except MissingError as error:
                        missing[kind.name] = str(error)
            found = await in_turns(systems, asked.quick)
            figures.add("foreign_cores", foreign_cores(before, look()), "cores")
        figures.add("sync_after_ms", sync_ms(Path(folder)), "ms")
    show(figures, found, missing, names)


async def in_turns(systems: Mapping[str, System], quick: bool) -> dict[str, Found]:
    """Warm the systems up and run them in rounds, each time another one first."""
    jobs, tasks = (20, 500) if quick else (60, 2000)
    found = {name: Found() for name in systems}
    for number in range(-1, ROUNDS):
        names = list(systems)
        first = number % len(names)
        for name in names[first:] + names[:first]:
            system = systems[name]
            system.rest(False)
            if number < 0:
                await _warm_up(system, tasks)
            else:
                await _turn(system, found[name], jobs, tasks)
            system.rest(True)
    return found


async def _warm_up(system: System, tasks: int) -> None:
    async def median_ms() -> float:
        return percentile(await system.jobs(_WARM_UP_JOBS), 0.5)

    await warm_up(median_ms)
    await system.tasks(tasks)


async def _turn(system: System, found: Found, jobs: int, tasks: int) -> None:
    # What rested gets up first.
    await system.jobs(3)
    before_s = system.cpu_s()
    found.p50_ms.append(percentile(await system.jobs(jobs), 0.5))
    between_s = system.cpu_s()
    found.tasks_per_s.append(tasks / await system.tasks(tasks))
    found.job_cpu_ms.append((between_s - before_s) / jobs * 1000)
    found.task_cpu_ms.append((system.cpu_s() - between_s) / tasks * 1000)


def show(
    figures: Figures, found: Mapping[str, Found], missing: Mapping[str, str], names: Sequence[str]
) -> None:
    """Print what each took, what it lacked, and what its acknowledgement is worth."""
    kinds = [OURS, *(kind for kind in KINDS if kind.name in names)]
    for kind in kinds:
        if kind.name in missing:
            figures.add(f"{kind.name}_job_p50_ms", None, "ms", missing=missing[kind.name])
            continue
        own = found[kind.name]
        figures.add_spread(f"{kind.name}_job_p50_ms", spread(own.p50_ms), "ms")
        figures.add_spread(
            f"{kind.name}_tasks_per_s", spread(own.tasks_per_s), "tasks/s", better="higher"
        )
        figures.add_spread(f"{kind.name}_cpu_ms_per_job", spread(own.job_cpu_ms), "ms")
        figures.add_spread(f"{kind.name}_cpu_ms_per_task", spread(own.task_cpu_ms), "ms")
    for name, own in found.items():
        if name != OURS.name:
            ratios = [a / b for a, b in zip(found[OURS.name].p50_ms, own.p50_ms, strict=True)]
            target = _TO_NATS_ALWAYS if name == "nats-always" else None
            figures.add_spread(f"job_latency_to_{name}", spread(ratios), "times", target=target)
    for kind in kinds:
        figures.say(f"{kind.name}_keeps", {"kill -9": kind.kill_9, "power loss": kind.power_loss})
