"""A gateway and a worker killed at each place where something was just, or not yet, on disk.

tests/restart/doomed.py has the places. After each kill the hub starts normally, and every job ends
once, with the right result, each of its shards counted once.
"""

import asyncio
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import ApiError, SwarmClient, UnreachableError
from swarm_hub.storage.backup.backup import newest_backup
from swarm_hub.storage.backup.restore import read_manifest
from swarm_hub.storage.schema import HEAD
from tests.conftest import until
from tests.helpers import warm
from tests.helpers.command_line import run_process
from tests.helpers.invariants import broken_gateway, broken_worker, undelivered
from tests.helpers.old_databases import FINISHED_JOB, RUNNING_JOB, old_database
from tests.helpers.swarms import local_swarm
from tests.helpers.wasm_bytes import custom
from tests.restart.doomed import POINTS

# Two starts for each point.
pytestmark = pytest.mark.usefixtures("warm_hubs")

N_ITEMS = 200
SPEC: dict[str, Any] = {"shard_size": 20, "reduce": "sum"}
# Shards that take much longer than an ACK waits for their results, on any machine.
N_LONG_ITEMS = 3000
LONG: dict[str, Any] = {"shard_size": 1500, "reduce": "sum"}
# More results than the gateway keeps in memory, and more rows than one chunk of gc removes.
MANY_ITEMS = 300
MANY: dict[str, Any] = {"shard_size": 1, "reduce": "sum"}
KEY = "submitted-once"
KEEPS_RECEIPTS = {"receipts": "all"}

GATEWAY_POINTS = (
    "job before its commit:1",
    "job committed, nobody told:1",
    "assignments committed, not sent:1",
    "assignments committed, not sent:2",
    "assignments sent, ACK not heard:1",
    "result heard, not stored:2",
    "result stored, not acknowledged:1",
    "result stored, not acknowledged:2",
    "result acknowledged at the mesh only:1",
)
FOLD_POINTS = ("before the fold:1", "folded, not stored:1")
WORKER_POINTS = (
    "assigned, nothing on disk:1",
    "inbox before its commit:1",
    "inbox committed, nobody told:1",
    "before the ACK:1",
    "shard ran, outbox not written:2",
    "outbox before its commit:1",
    "outbox committed, nobody told:1",
    "written down, not sent:2",
    "result not sent:2",
    "sent, not written down:1",
    "delivered, not deleted:1",
)
# Each with whether the change is there after the kill.
CHANGE_POINTS = {"change before its commit:1": False, "change committed, nobody told:1": True}
REPEATED_POINTS = ("job before its commit:1", "job committed, nobody told:1")
UPGRADE_POINTS = (
    "before the copy has its name:1",
    "copied, not upgraded:1",
    "before the upgrade commits:1",
)
BACKUP_POINTS = (
    "database copied for the backup:1",
    "in the middle of the archive:2",
    "archive whole, not renamed:1",
)


class Pair:
    """A gateway and a worker that are killed at one point after another.

    Two new hubs for each point would take twice as long. What a failed test left is no start for
    the next one, though, which then gets new ones.
    """

    def __init__(self, new_folder: Callable[[], Path]) -> None:
        self._new_folder = new_folder
        self._swarm = local_swarm(new_folder())
        self._whole = False
        self.hubs: list[LocalHub] = []
        self.jobs: dict[str, int] = {}

    @property
    def gateway(self) -> LocalHub:
        return self.hubs[0]

    @property
    def worker(self) -> LocalHub:
        return self.hubs[1]

    def take(self) -> None:
        """Have both hubs with nothing left to do."""
        if not self._whole:
            self.stop()
            self._swarm = local_swarm(self._new_folder())
            gateway = self._swarm.start_gateway(gateway=KEEPS_RECEIPTS)
            self._swarm.start_worker("worker", gateway)
            self.hubs[:] = self._swarm.hubs
            self.jobs.clear()
        self._whole = False

    def new(self, module: bytes) -> bytes:
        """Return a module that the hubs have not measured: of a fast one all is sent at once."""
        return module + custom(b"number", str(len(self.jobs)).encode())

    def new_key(self) -> str:
        return f"{KEY}-{len(self.jobs)}"

    async def assert_done_once(self, client: SwarmClient, job_id: str, n_items: int) -> None:
        """Wait for a job; it and those before it are all there are, each of them done once."""
        self.jobs[job_id] = n_items
        await assert_done_once(client, self.gateway, self.worker, self.jobs)
        assert results_without_receipt(database_of(self.gateway)) == []
        self._whole = True

    def stop(self) -> None:
        self._swarm.stop()


@pytest.fixture(scope="module")
def lasting_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    pair = Pair(lambda: tmp_path_factory.mktemp("pair"))
    yield pair
    pair.stop()


@pytest.fixture
def outliving(lasting_pair: Pair) -> Sequence[LocalHub]:
    return lasting_pair.hubs


@pytest.fixture
async def pair(lasting_pair: Pair) -> Pair:
    await asyncio.to_thread(lasting_pair.take)
    return lasting_pair


def doom(hub: LocalHub, point: str) -> None:
    """Start a hub that was just made, or was killed, as one that will die at a point."""
    assert hub.process is not None
    if hub.process.poll() is None:
        hub.kill()
    with (hub.folder / "hub.log").open("ab") as log:
        hub.process = warm.start(  # type: ignore[assignment]
            "tests.restart.doomed", [point, "run", "-c", hub.folder], stdout=log, stderr=log
        )


async def death_of(hub: LocalHub) -> None:
    """Wait until a hub has killed itself."""
    assert hub.process is not None
    try:
        code = await asyncio.to_thread(hub.process.wait, 30)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"it lives:\n{hub.log()[-3000:]}") from None
    assert code == -signal.SIGKILL, hub.log()[-3000:]


def database_of(hub: LocalHub) -> Path:
    return hub.folder / "swarm_hub.db"


async def submit_until_taken(
    client: SwarmClient, module: bytes, n_items: int, spec: dict[str, Any], key: str = KEY
) -> str:
    """Submit as a careful client does: under one key, until there is a 202."""
    deadline = time.monotonic() + 40
    while True:
        try:
            return await client.submit(module, range(n_items), idempotency_key=key, **spec)
        except UnreachableError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def assert_done_once(
    client: SwarmClient, gateway: LocalHub, worker: LocalHub, jobs: Mapping[str, int]
) -> None:
    for job_id, n_items in jobs.items():
        async with asyncio.timeout(60):
            status = await client.wait(job_id)
        assert (status["state"], status["result"]) == ("completed", n_items), status
    assert {job["job_id"] for job in await client.jobs(limit=len(jobs) + 1)} == set(jobs)

    async def left() -> int:
        return await asyncio.to_thread(undelivered, [database_of(worker)])

    # A worker forgets what it has heard to be stored, and is told again what it did not hear.
    await until(left, lambda count: count == 0, 30)
    assert broken_gateway(database_of(gateway), jobs) == []
    assert broken_worker(database_of(worker)) == []


def results_without_receipt(database: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as file:
        query = "SELECT assignment_id FROM results WHERE receipt IS NULL"
        return [assignment_id for (assignment_id,) in file.execute(query)]


def test_every_point_is_tried() -> None:
    tried = (
        *GATEWAY_POINTS, *FOLD_POINTS, *WORKER_POINTS, *CHANGE_POINTS, *UPGRADE_POINTS,
        *BACKUP_POINTS,
    )  # fmt: skip
    assert {each.partition(":")[0] for each in tried} | {"between two chunks of gc"} == set(POINTS)


@pytest.mark.parametrize("point", [*GATEWAY_POINTS, *FOLD_POINTS])
async def test_a_gateway_killed_at_a_point_finishes_its_job_once(
    pair: Pair, modules: dict[str, bytes], point: str
) -> None:
    many = point in FOLD_POINTS
    long = "ACK" in point
    module, n_items, spec = (
        (modules["count"], MANY_ITEMS, MANY)
        if many
        else (pair.new(modules["spin"]), *((N_LONG_ITEMS, LONG) if long else (N_ITEMS, SPEC)))
    )
    gateway = pair.gateway
    doom(gateway, point)
    async with SwarmClient(gateway.url, gateway.token) as client:
        submitting = asyncio.create_task(
            submit_until_taken(client, module, n_items, spec, pair.new_key())
        )
        await death_of(gateway)
        assert broken_gateway(database_of(gateway), pair.jobs) == []
        gateway.start()
        await pair.assert_done_once(client, await submitting, n_items)


async def test_a_gateway_killed_while_it_changes_or_repeats_a_job_keeps_its_word(
    local: LocalSwarm, modules: dict[str, bytes]
) -> None:
    gateway = local.start_gateway()
    async with SwarmClient(gateway.url, gateway.token, patience_s=0) as client:
        spec = {"priority": 1, "reduce": "sum"}
        job_id = await submit_until_taken(client, modules["primes"], 100, spec)
        for number, (point, is_there) in enumerate(CHANGE_POINTS.items(), 2):
            doom(gateway, point)
            await until(lambda: answers(client), bool, 30)
            with pytest.raises(UnreachableError):
                await client.change(job_id, priority=number)
            await death_of(gateway)
            gateway.start()
            await until(lambda: answers(client), bool, 30)
            kept = (await client.status(job_id))["spec"]["priority"]
            assert (kept == number) == is_there
        for number, point in enumerate(REPEATED_POINTS):
            doom(gateway, point)
            await until(lambda: answers(client), bool, 30)
            with pytest.raises(UnreachableError):
                await client.resubmit(job_id, idempotency_key=str(number), priority=number)
            await death_of(gateway)
            gateway.start()
            await until(lambda: answers(client), bool, 30)
            again = await client.resubmit(job_id, idempotency_key=str(number), priority=number)
            assert (await client.status(again))["spec"]["priority"] == number
        # None is there twice, and each of them is done.
        assert len(await client.jobs()) == 1 + len(REPEATED_POINTS)
        local.start_worker("worker", gateway)
        for job in await client.jobs():
            assert (await client.wait(job["job_id"]))["state"] == "completed"


async def answers(client: SwarmClient) -> bool:
    try:
        return bool(await client.health())
    except UnreachableError:
        return False


@pytest.mark.parametrize("point", WORKER_POINTS)
async def test_a_worker_killed_at_a_point_costs_its_job_nothing(
    pair: Pair, modules: dict[str, bytes], point: str
) -> None:
    doom(pair.worker, point)
    async with SwarmClient(pair.gateway.url, pair.gateway.token) as client:
        job_id = await submit_until_taken(
            client, pair.new(modules["spin"]), N_ITEMS, SPEC, pair.new_key()
        )
        await death_of(pair.worker)
        assert broken_worker(database_of(pair.worker)) == []
        pair.worker.start()
        await pair.assert_done_once(client, job_id, N_ITEMS)


async def test_a_worker_and_its_gateway_killed_before_the_worker_wrote_anything_lose_nothing(
    pair: Pair, modules: dict[str, bytes]
) -> None:
    doom(pair.worker, "assigned, nothing on disk:1")
    async with SwarmClient(pair.gateway.url, pair.gateway.token) as client:
        job_id = await submit_until_taken(
            client, pair.new(modules["spin"]), N_ITEMS, SPEC, pair.new_key()
        )
        await death_of(pair.worker)
        pair.gateway.kill()
        assert broken_gateway(database_of(pair.gateway), pair.jobs) == []
        pair.gateway.start()
        pair.worker.start()
        await pair.assert_done_once(client, job_id, N_ITEMS)


async def test_gc_killed_between_two_chunks_ends_what_it_began(
    local: LocalSwarm, modules: dict[str, bytes]
) -> None:
    gateway = local.start_gateway(
        extra="gc: {platform: ttl, completed_after: 0}\n", gateway=KEEPS_RECEIPTS
    )
    doom(gateway, "between two chunks of gc:2")
    local.start_worker("worker", gateway)
    async with SwarmClient(gateway.url, gateway.token) as client:
        job_id = await submit_until_taken(client, modules["count"], MANY_ITEMS, MANY)

        async def readable() -> bool:
            try:
                return bool(await client.result(job_id))
            except (ApiError, UnreachableError):
                return False

        # Reading the result lets it go.
        await until(readable, bool, 40)
        await death_of(gateway)

        def rows() -> tuple[int, ...]:
            with closing(sqlite3.connect(f"file:{database_of(gateway)}?mode=ro", uri=True)) as file:
                tables = ("jobs", "shards", "assignments", "results", "receipts")
                return tuple(
                    file.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables
                )

        left = rows()
        assert left[0] == 0
        assert sum(left) > 0
        gateway.start()
        await until(lambda: asyncio.to_thread(rows), lambda left: sum(left) == 0, 30)
        with pytest.raises(ApiError) as gone:
            await client.status(job_id)
        assert gone.value.status == 410
        assert broken_gateway(database_of(gateway), {}) == []


@pytest.mark.parametrize("point", UPGRADE_POINTS)
async def test_an_upgrade_that_is_killed_is_done_by_the_next_start(
    local: LocalSwarm, point: str
) -> None:
    gateway = local.start_gateway()
    gateway.kill()
    old = old_database(gateway.folder, "0001")
    before = old.read_bytes()
    doom(gateway, point)
    await death_of(gateway)
    with closing(sqlite3.connect(f"file:{old}?mode=ro", uri=True)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
    gateway.start()
    async with SwarmClient(gateway.url, gateway.token) as client:

        async def known() -> set[str]:
            try:
                return {job["job_id"] for job in await client.jobs()}
            except UnreachableError:
                return set()

        assert await until(known, bool) == {FINISHED_JOB, RUNNING_JOB}
        assert (await client.status(FINISHED_JOB))["result"] == 1770
    with closing(sqlite3.connect(f"file:{old}?mode=ro", uri=True)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (int(HEAD),)
        assert database.execute("PRAGMA quick_check").fetchall() == [("ok",)]
    copy = old.with_name(f"{old.name}.schema-0001")
    assert len(copy.read_bytes()) == len(before)


async def test_backups_killed_beside_a_running_job_harm_neither(
    local: LocalSwarm, modules: dict[str, bytes]
) -> None:
    gateway = local.start_gateway()
    worker = local.start_worker("worker", gateway)
    backups = gateway.folder / "backups"
    async with SwarmClient(gateway.url, gateway.token) as client:
        job_id = await submit_until_taken(client, modules["spin"], 2 * N_ITEMS, SPEC)
        for point in BACKUP_POINTS:
            killed = await asyncio.to_thread(
                warm.run, "tests.restart.doomed", [point, "backup", "-c", gateway.folder]
            )
            assert killed.returncode == -signal.SIGKILL, point
            assert newest_backup(backups, "gateway") is None
            # The next one removes it.
            assert len(list(backups.glob(".swarm-hub-*.partial"))) == 1
        done = await asyncio.to_thread(run_process, "backup", "-c", gateway.folder)
        assert done.code == 0, done.err
        assert not list(backups.glob(".swarm-hub-*"))
        assert read_manifest(Path(done.out.strip())).database == "swarm_hub.db"
        await assert_done_once(client, gateway, worker, {job_id: 2 * N_ITEMS})
