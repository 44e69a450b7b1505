"""Whole hubs on a disk that gets full, and has space again, beneath the running processes."""

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.cli.swarm import LocalHub
from swarm_hub.client import ApiError, SwarmClient
from swarm_hub.storage.engine.space import RESERVE_BYTES
from tests.conftest import until
from tests.helpers.command_line import run_process
from tests.helpers.faults import ROOT, FaultFs, Space
from tests.helpers.invariants import broken_gateway, broken_worker
from tests.helpers.swarms import local_swarm

MIN_FREE_BYTES = 4 * 1024 * 1024
# Room for the reserve above the floor, and some for the work.
PLENTY_BYTES = MIN_FREE_BYTES + RESERVE_BYTES + 64 * 1024 * 1024
FLOOR = f"storage: {{min_free: {MIN_FREE_BYTES}}}\n"
NO_FLOOR = "storage: {min_free: 0}\n"
# More than the reserves of three hubs, which each gives back to all.
FLOOR_OF_ALL_BYTES = 5 * RESERVE_BYTES
N_ITEMS = 600
# Of each of four jobs, so that they last longer than the workers take to notice.
MANY_ITEMS = 2500
SPEC: dict[str, Any] = {"shard_size": 20, "reduce": "sum"}
NOBODY = 65534


class Disk:
    """A swarm in which one hub has a disk of its own."""

    def __init__(self, folder: Path, faultfs: FaultFs) -> None:
        self._folder = folder / "hubs"
        self._folder.mkdir()
        self._control = folder / "control"
        self.swarm = local_swarm(self._folder)
        self._faultfs = faultfs
        self.space = Space.make(self._control, 1 << 30, PLENTY_BYTES)

    @contextmanager
    def below(self, name: str) -> Iterator[None]:
        """Let hubs that are started meanwhile, and live in the directory `name`, have the disk.

        With `.` it is the directory of all.
        """
        before = dict(os.environ)
        # `realpath` of the library needs the directory; LocalSwarm makes what is in it.
        (self._folder / name).mkdir(exist_ok=True)
        os.environ.update(self._faultfs.environment(self._folder / name, control=self._control))
        yield
        os.environ.clear()
        os.environ.update(before)

    def gateway(self, extra: str) -> LocalHub:
        """Start a gateway on this disk."""
        with self.below("gateway"):
            return self.swarm.start_gateway("gateway", extra)

    def worker(self, gateway: LocalHub, extra: str) -> LocalHub:
        """Start a worker on this disk."""
        with self.below("worker"):
            return self.swarm.start_worker("worker", gateway, extra=extra)


@pytest.fixture(scope="session")
def faultfs(tmp_path_factory: pytest.TempPathFactory) -> FaultFs:
    return FaultFs.build(tmp_path_factory.mktemp("faultfs"))


@pytest.fixture
async def disk(tmp_path: Path, faultfs: FaultFs) -> AsyncIterator[Disk]:
    made = Disk(tmp_path, faultfs)
    yield made
    made.space.free_bytes = Space.UNLIMITED
    await asyncio.to_thread(made.swarm.stop)


def reserve_of(hub: LocalHub) -> Path:
    return hub.folder / "swarm_hub.db.reserve"


async def disk_full(client: SwarmClient) -> str | None:
    found = (await client.health())["disk_full"]
    return None if found is None else str(found)


async def shards_done(client: SwarmClient, job_id: str) -> int:
    return int((await client.status(job_id))["progress"]["shards_done"])


async def refused(client: SwarmClient, module: bytes) -> ApiError:
    with pytest.raises(ApiError) as error:
        await client.submit(module, range(10))
    assert (error.value.status, error.value.code) == (507, "disk_full")
    return error.value


async def assert_completed(client: SwarmClient, job_id: str, n_items: int = N_ITEMS) -> None:
    async with asyncio.timeout(60):
        status = await client.wait(job_id)
    assert (status["state"], status["result"]) == ("completed", n_items), status


def assert_nothing_broken(gateway: LocalHub, worker: LocalHub, jobs: dict[str, int]) -> None:
    assert broken_gateway(gateway.folder / "swarm_hub.db", jobs) == []
    assert broken_worker(worker.folder / "swarm_hub.db") == []


async def test_a_gateway_below_its_floor_takes_no_job_and_goes_on_with_the_others(
    disk: Disk, modules: dict[str, bytes]
) -> None:
    gateway = disk.gateway(FLOOR + "gc: {platform: ttl, completed_after: 0}\n")
    worker = disk.swarm.start_worker("worker", gateway)
    async with SwarmClient(gateway.url, gateway.token) as client:
        await disk.swarm.wait_for_workers(client, 1)
        pid = gateway.pid
        assert await disk_full(client) is None
        assert reserve_of(gateway).stat().st_size == RESERVE_BYTES
        # A large dataset that gc can remove later.
        large = await client.submit(modules["cat"], b"x" * 1_999_999 + b"\n")
        async with asyncio.timeout(30):
            await client.wait(large)
        job_id = await client.submit(modules["spin"], range(N_ITEMS), **SPEC)
        await until(lambda: shards_done(client, job_id), lambda done: done >= 1)

        disk.space.free_bytes = MIN_FREE_BYTES - 1
        await until(lambda: disk_full(client), bool)
        # The reserve went at once: the disk needs room for deleting, too.
        assert not reserve_of(gateway).exists()
        error = await refused(client, modules["spin"])
        assert "less than storage: min_free (4096 KiB); free some space" in str(error)
        assert await shards_done(client, job_id) >= 1
        # What runs has the space below the floor, and what ended makes room.
        await assert_completed(client, job_id)

        async def gone() -> bool:
            try:
                await client.result(large)
            except ApiError as answer:
                return answer.status == 410
            return False

        await until(gone, bool, 30)
        assert await disk_full(client)
        await refused(client, modules["spin"])

        disk.space.free_bytes = PLENTY_BYTES
        await until(lambda: disk_full(client), lambda full: full is None)
        assert reserve_of(gateway).stat().st_size == RESERVE_BYTES
        second = await client.submit(modules["spin"], range(20), **SPEC)
        await assert_completed(client, second, 20)
        assert gateway.pid == pid
        assert gateway.process is not None
        assert gateway.process.poll() is None
    assert_nothing_broken(gateway, worker, {second: 20})


@pytest.mark.parametrize("free_bytes", [RESERVE_BYTES, 0], ids=["floor", "end"])
async def test_accepted_jobs_finish_on_a_disk_that_is_full_for_all_hubs(
    disk: Disk, modules: dict[str, bytes], free_bytes: int
) -> None:
    # The reserves of three hubs, and some.
    disk.space.free_bytes = FLOOR_OF_ALL_BYTES + 4 * RESERVE_BYTES
    floor = f"storage: {{min_free: {FLOOR_OF_ALL_BYTES}}}\n"
    with disk.below("."):
        gateway = disk.swarm.start_gateway(extra=floor)
        workers = [disk.swarm.start_worker(f"w{n}", gateway, extra=floor) for n in range(2)]
    async with SwarmClient(gateway.url, gateway.token) as client:
        await disk.swarm.wait_for_workers(client, 2)
        for hub in (gateway, *workers):
            assert reserve_of(hub).exists()
        jobs = [await client.submit(modules["spin"], range(MANY_ITEMS), **SPEC) for _ in range(4)]
        await until(lambda: shards_done(client, jobs[0]), lambda done: done >= 1)
        disk.space.free_bytes = free_bytes
        for job_id in jobs:
            await assert_completed(client, job_id, MANY_ITEMS)
        await until(lambda: disk_full(client), bool)
        await refused(client, modules["spin"])
        await until(client.nodes, lambda nodes: all(node["refuses"] for node in nodes))

        disk.space.free_bytes = PLENTY_BYTES
        await until(lambda: disk_full(client), lambda full: full is None)
    for worker in workers:
        assert_nothing_broken(gateway, worker, dict.fromkeys(jobs, MANY_ITEMS))


async def test_a_gateway_that_runs_into_the_end_of_its_disk_waits_and_loses_nothing(
    disk: Disk, modules: dict[str, bytes]
) -> None:
    gateway = disk.gateway(NO_FLOOR)
    worker = disk.swarm.start_worker("worker", gateway)
    async with SwarmClient(gateway.url, gateway.token) as client:
        await disk.swarm.wait_for_workers(client, 1)
        job_id = await client.submit(modules["spin"], range(N_ITEMS), **SPEC)
        await until(lambda: shards_done(client, job_id), lambda done: done >= 1)
        reserve_of(gateway).unlink()
        disk.space.free_bytes = 0
        await until(lambda: disk_full(client), bool)
        before = disk.space.refused
        assert before > 0
        error = await refused(client, modules["spin"])
        assert "no space left on the disk; free some space" in str(error)
        assert [job["job_id"] for job in await client.jobs()] == [job_id]
        # It tries again and again, and acknowledges nothing meanwhile.

        async def refusals() -> int:
            return disk.space.refused

        await until(refusals, lambda count: count > before)
        assert (await client.status(job_id))["state"] == "running"

        disk.space.free_bytes = PLENTY_BYTES
        await assert_completed(client, job_id)
        await until(lambda: disk_full(client), lambda full: full is None)
        second = await client.submit(modules["spin"], range(20), **SPEC)
        await assert_completed(client, second, 20)
    assert_nothing_broken(gateway, worker, {job_id: N_ITEMS, second: 20})


@pytest.mark.parametrize("floor", [FLOOR, NO_FLOOR], ids=["floor", "end of the disk"])
async def test_a_worker_without_space_takes_no_work_says_why_and_comes_back(
    disk: Disk, modules: dict[str, bytes], floor: str
) -> None:
    gateway = disk.swarm.start_gateway()
    worker = disk.worker(gateway, floor)
    async with SwarmClient(gateway.url, gateway.token) as client:
        await disk.swarm.wait_for_workers(client, 1)

        async def refuses() -> str | None:
            (node,) = await client.nodes()
            return None if node["refuses"] is None else str(node["refuses"])

        job_id = await client.submit(modules["spin"], range(N_ITEMS), **SPEC)
        await until(lambda: shards_done(client, job_id), lambda done: done >= 1)
        reserve_of(worker).unlink(missing_ok=True)
        disk.space.free_bytes = MIN_FREE_BYTES - 1 if floor == FLOOR else 0
        reason = await until(refuses, bool)
        assert "free some space" in reason
        listed = await asyncio.to_thread(
            run_process, "node", "list", "--url", gateway.url, "--token", gateway.token
        )
        assert reason in listed.out
        # The job waits, and says for what.
        waiting = await client.submit(modules["count"], range(10))
        assert (await client.status(waiting))["state"] == "queued"

        disk.space.free_bytes = PLENTY_BYTES
        await until(refuses, lambda reason: reason is None)
        await assert_completed(client, job_id)
        await assert_completed(client, waiting, 10)
        assert worker.process is not None
        assert worker.process.poll() is None
    assert_nothing_broken(gateway, worker, {job_id: N_ITEMS, waiting: 10})


# The interpreter may lie where only root can read, so everything is imported before.
_AS_NOBODY = """
import difflib, os, sys, time
import swarm_hub.cli, swarm_hub.runner, swarm_hub.cli.hub
if os.geteuid() == 0:
    os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})
sys.argv = ["swarm-hub", "run", "-c", sys.argv[1]]
swarm_hub.cli.run(time.monotonic())
"""


def test_a_hub_in_a_directory_it_can_not_write_says_one_line_and_exits_1() -> None:
    # A coverage tool in the child could not write its file as nobody, and would say so.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
    with tempfile.TemporaryDirectory(prefix="swarm_hub_read_only") as made:
        folder = Path(made)
        (folder / "configuration.yaml").write_text("gateway:\nmesh: {transport: loopback}\n")
        folder.chmod(0o555)
        ended = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY.format(nobody=NOBODY), made],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        folder.chmod(0o700)
    assert ended.returncode == 1, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert line == (
        f"swarm-hub: {folder}: the directory can't be written (Permission denied); give its "
        "owner write permission or choose another with -c"
    )
