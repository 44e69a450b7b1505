"""How long until work goes on after each thing that can happen to a hub of a swarm.

Real processes over libp2p; a PostgreSQL server, and a disk that can be full, of the tests' own.
"""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path

from figures import start

from swarm_hub.cli.inspect import with_sandbox
from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import ApiError, SwarmClient, UnreachableError
from swarm_hub.components.gateway.dispatch.leases import LEASE_S
from swarm_hub.storage.backup.backup import Source, make_backup, new_file

_ROOT = Path(__file__).parents[1]
_SHARDS = 400
_ITEMS_A_SHARD = 100  # about a tenth of a second
_WITHIN_S = 90.0
_FLOOR_BYTES = 4 * 1024 * 1024


async def main() -> None:
    """Do each thing once to a swarm of its own."""
    figures, _ = start(__doc__ or "")
    # The faulty disk, the server and the slow module are those of the tests.
    sys.path.insert(0, str(_ROOT))
    from tests.helpers.modules import SPIN

    module = await with_sandbox(lambda sandbox: sandbox.assemble(SPIN))
    for measure in (_lost_worker, _frozen_worker, _damaged_worker, _damaged_gateway, _full_disk):
        with tempfile.TemporaryDirectory(prefix="swarm-hub-bench-") as folder:
            swarm = LocalSwarm(Path(folder))
            try:
                figure, seconds = await measure(swarm, Path(folder), module)
            finally:
                swarm.stop()
        figures.add(figure, seconds, "s")
    figures.add("lost_gateway_back_s", await lost_gateway_s(module), "s", target=12)


async def _lost_worker(swarm: LocalSwarm, _folder: Path, module: bytes) -> tuple[str, float]:
    """From the kill of a worker to its first shard being queued again."""
    return "lost_worker_reroute_s", await _reroute(swarm, module, signal.SIGKILL)


async def _frozen_worker(swarm: LocalSwarm, _folder: Path, module: bytes) -> tuple[str, float]:
    """The same for one that only stops to move, as a phone out of reach does."""
    return "frozen_worker_reroute_s", await _reroute(swarm, module, signal.SIGSTOP)


async def _reroute(swarm: LocalSwarm, module: bytes, how: signal.Signals) -> float:
    gateway = swarm.start_gateway()
    workers = [swarm.start_worker(name, gateway) for name in ("amber", "birch")]
    async with SwarmClient(gateway.url, gateway.token) as client:
        await swarm.wait_for_workers(client, 2)
        job_id = await _busy(client, module)
        os.kill(workers[0].pid, how)
        struck_at = time.time()

        async def returned_at() -> float | None:
            story = await client.story(job_id)
            times = [_time(each) for each in story if each["event_type"] == "shard_returned"]
            return min((each for each in times if each > struck_at), default=None)

        try:
            return await _until(returned_at) - struck_at
        finally:
            os.kill(workers[0].pid, signal.SIGCONT)


async def _damaged_worker(swarm: LocalSwarm, _folder: Path, module: bytes) -> tuple[str, float]:
    """From the start of a worker whose database is garbage to its first result that counts."""
    gateway = swarm.start_gateway()
    worker = swarm.start_worker("amber", gateway)
    async with SwarmClient(gateway.url, gateway.token) as client:
        await swarm.wait_for_workers(client, 1)
        job_id = await _busy(client, module)
        worker.kill()
        (worker.folder / "swarm_hub.db").write_bytes(b"garbage" * 5000)
        return "damaged_worker_back_s", await _counts_again(client, job_id, worker)


async def _damaged_gateway(swarm: LocalSwarm, folder: Path, module: bytes) -> tuple[str, float]:
    """From the start of such a gateway to the first result after its backup was restored."""
    gateway = swarm.start_gateway(extra="storage: {on_damage: restore}\n")
    swarm.start_worker("amber", gateway)
    async with SwarmClient(gateway.url, gateway.token) as client:
        await swarm.wait_for_workers(client, 1)
        job_id = await _busy(client, module)
        database = gateway.folder / "swarm_hub.db"
        target = new_file(gateway.folder / "backups", gateway.name, time.time())
        source = Source(gateway.folder, gateway.name, database)
        await asyncio.to_thread(make_backup, source, target, time.time())
        gateway.kill()
        database.write_bytes(b"garbage" * 5000)
        return "damaged_gateway_back_s", await _counts_again(client, job_id, gateway)


async def _full_disk(swarm: LocalSwarm, folder: Path, module: bytes) -> tuple[str, float]:
    """From space on a full disk to the next job that is taken, by the same process."""
    from tests.helpers.faults import FaultFs, Space

    home = folder / "gateway"
    home.mkdir()
    faultfs = FaultFs.build(folder)
    space = Space.make(folder / "control", 1 << 30, 256 * 1024 * 1024)
    before = dict(os.environ)
    os.environ.update(faultfs.environment(home, control=folder / "control"))
    gateway = swarm.start_gateway(extra=f"storage: {{min_free: {_FLOOR_BYTES}}}\n")
    os.environ.clear()
    os.environ.update(before)
    async with SwarmClient(gateway.url, gateway.token) as client:

        async def taken() -> float | None:
            try:
                await client.submit(module, range(1), reduce="sum")
            except (ApiError, UnreachableError):
                return None
            return time.time()

        async def refused() -> float | None:
            return time.time() if await taken() is None else None

        await _until(taken)
        space.free_bytes = 0
        await _until(refused)
        space.free_bytes = 256 * 1024 * 1024
        freed_at = time.time()
        return "full_disk_back_s", await _until(taken) - freed_at


async def lost_gateway_s(module: bytes) -> float:
    """From the kill of one of two gateways to the first result that the other counts.

    What the worker has finished is taken in with the job, so this is the take-over.
    """
    from tests.helpers.postgres import running_server

    with running_server() as server, tempfile.TemporaryDirectory() as folder:
        swarm = LocalSwarm(Path(folder))
        try:
            extra = f"storage: {{url: '{server.new_database()}'}}\n"
            hubs = [swarm.start_gateway(name, extra) for name in ("first", "second")]
            swarm.start_worker("amber", *hubs)
            async with AsyncExitStack() as stack:
                clients = []
                for hub in hubs:
                    client = SwarmClient(hub.url, hub.token)
                    clients.append(await stack.enter_async_context(client))
                    await swarm.wait_for_workers(client, 1)
                # Which sessions a server lacks says nothing just after its start (ADR 103).
                await asyncio.sleep(LEASE_S)
                job_id = await _busy(clients[0], module)
                hubs[0].kill()
                killed_at = time.time()
                return await _counted_after(clients[1], job_id, killed_at)
        finally:
            swarm.stop()


async def _busy(client: SwarmClient, module: bytes) -> str:
    """Submit a job of half a minute and wait until it is under way; returns its id."""
    items = range(_SHARDS * _ITEMS_A_SHARD)
    job_id = await client.submit(module, items, shard_size=_ITEMS_A_SHARD, reduce="sum")

    async def done() -> float | None:
        status = await client.status(job_id)
        return 1.0 if status["progress"]["shards_done"] >= 4 else None

    await _until(done)
    return job_id


async def _counts_again(client: SwarmClient, job_id: str, hub: LocalHub) -> float:
    started_at = time.time()
    hub.start()
    return await _counted_after(client, job_id, started_at)


async def _counted_after(client: SwarmClient, job_id: str, since: float) -> float:
    async def counted_at() -> float | None:
        try:
            story = await client.story(job_id)
        except (UnreachableError, ApiError):
            return None
        times = [_time(each) for each in story if each["event_type"] == "shard_done"]
        return min((each for each in times if each > since), default=None)

    return await _until(counted_at) - since


async def _until(read: Callable[[], Awaitable[float | None]]) -> float:
    deadline = time.monotonic() + _WITHIN_S
    while (value := await read()) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing within {_WITHIN_S:.0f} s")
        await asyncio.sleep(0.05)
    return value


def _time(event: dict[str, object]) -> float:
    return datetime.fromisoformat(str(event["time_fired"])).timestamp()


if __name__ == "__main__":
    asyncio.run(main())
