"""What a job answers from its submission to long after its end."""

import asyncio
import contextlib
import sqlite3
import time
from typing import Any

import pytest

from swarm_hub.storage.queries import jobs
from tests.conftest import MovableClock, RunningHub, Swarm, until
from tests.helpers.rest import call, finished, live, submit

pytestmark = pytest.mark.slow

Modules = dict[str, bytes]


async def read_marked(hub: RunningHub, job_id: str) -> float:
    """Return when a result was first read, once that is on disk."""

    async def read_at() -> Any:
        job = await hub.hub.store.read(jobs.get, job_id)
        return job.read_at if job else None

    return float(await until(read_at, lambda at: at is not None))


async def collected(hub: RunningHub, **ages_s: float) -> None:
    """Do what a round of `gc` does."""
    from swarm_hub.components.gc.collector import Collector
    from swarm_hub.components.gc.ttl import create

    policy = create(**{"completed_after_s": 300.0, "unread_after_s": 86400.0, **ages_s})
    await Collector(hub.hub, policy, "").collect()


async def test_a_job_goes_through_202_206_200_and_410(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    _, body = await submit(gateway, modules["spin"], b"0:600", {"shard_size": 100})
    job = f"/jobs/{body['job_id']}"
    code, status = await call(gateway, "GET", job)
    assert (code, status["status"], status["breakdown"]) == (202, "awaiting_telemetry", [])
    await swarm.worker("worker")

    async def now() -> tuple[int, Any]:
        return await call(gateway, "GET", job)

    code, status = await until(now, lambda seen: seen[1]["total_sum"] or seen[0] == 200)
    assert (code, status["status"]) == (206, "partial")
    assert status["total_sum"] in range(100, 600, 100)
    assert status["missing_shards"]
    assert await finished(gateway, body["job_id"])
    code, status = await now()
    assert (code, status["status"], status["total_sum"]) == (200, "completed", 600)
    await read_marked(gateway, body["job_id"])
    gateway.clock.offset_s += 301
    await collected(gateway)
    code, answer = await now()
    assert (code, answer["code"]) == (410, "pruned")
    for path in ("/result", "/shards", "/failures", "/receipts", "/story"):
        assert (await call(gateway, "GET", job + path))[0] == 410
    assert (await call(gateway, "DELETE", job))[0] == 410


async def test_gc_runs_by_itself(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway(
        extra="gc: {platform: ttl, completed_after: 0, unread_after: 0}\n"
    )
    await swarm.worker("worker")
    _, body = await submit(gateway, modules["primes"], b"0:100")

    async def code() -> int:
        return (await call(gateway, "GET", f"/jobs/{body['job_id']}"))[0]

    assert await until(code, lambda code: code == 410) == 410


async def test_an_unread_result_is_kept_longer_than_a_read_one(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    made = []
    for _ in range(2):
        _, body = await submit(gateway, modules["primes"], b"0:100")
        made.append(body["job_id"])

    async def ended() -> int:
        _, page = await call(gateway, "GET", "/jobs")
        return sum(job["state"] == "completed" for job in page["jobs"])

    await until(ended, lambda count: count == 2)
    read, unread = made
    assert (await call(gateway, "GET", f"/jobs/{read}/result"))[1] == 25

    await read_marked(gateway, read)
    gateway.clock.offset_s += 301
    await collected(gateway)
    assert (await call(gateway, "GET", f"/jobs/{read}"))[0] == 410
    # A listing does not count as reading.
    gateway.clock.offset_s += 3600
    await collected(gateway)
    _, page = await call(gateway, "GET", "/jobs")
    assert [job["job_id"] for job in page["jobs"]] == [unread]
    gateway.clock.offset_s += 86400
    await collected(gateway)
    assert (await call(gateway, "GET", f"/jobs/{unread}"))[0] == 410


async def test_the_count_to_pruning_starts_with_the_first_reading(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    _, body = await submit(gateway, modules["primes"], b"0:100")
    await finished(gateway, body["job_id"])
    first = await read_marked(gateway, body["job_id"])
    gateway.clock.offset_s += 200
    await call(gateway, "GET", f"/jobs/{body['job_id']}/result")
    await call(gateway, "GET", f"/jobs/{body['job_id']}")
    assert await read_marked(gateway, body["job_id"]) == first


@pytest.mark.parametrize("path", ["", "/result", "/shards", "/failures", "/receipts", "/story"])
async def test_an_unknown_job_is_404(swarm: Swarm, path: str) -> None:
    gateway = await swarm.gateway()
    code, body = await call(gateway, "GET", f"/jobs/01NOSUCHJOB{path}")
    assert (code, body["code"]) == (404, "not_found")
    assert "01NOSUCHJOB" in body["message"]


async def test_a_result_before_the_end_is_409(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    _, body = await submit(gateway, modules["primes"], b"0:100")
    code, answer = await call(gateway, "GET", f"/jobs/{body['job_id']}/result")
    assert (code, answer["code"]) == (409, "no_result")


async def test_wait_is_held_until_the_state_changes(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    _, body = await submit(gateway, modules["primes"], b"0:100")
    job = f"/jobs/{body['job_id']}"
    waiting = asyncio.create_task(call(gateway, "GET", f"{job}?wait=30"))
    started = time.monotonic()
    code, status = await call(gateway, "GET", f"{job}?wait=1")
    assert (code, status["state"]) == (202, "queued")
    assert time.monotonic() - started >= 0.99
    assert not waiting.done()
    await swarm.worker("worker")
    async with asyncio.timeout(30):
        code, status = await waiting
    assert status["state"] in ("running", "completed")
    await finished(gateway, body["job_id"])
    started = time.monotonic()
    code, _ = await call(gateway, "GET", f"{job}?wait=30")
    assert (code, time.monotonic() - started < 5) == (200, True)


@pytest.mark.parametrize("wait", ["61", "-1", "x", "1.5", "²", "99999999999999999999999"])
async def test_a_wait_out_of_its_bounds_is_400(swarm: Swarm, wait: str) -> None:
    gateway = await swarm.gateway()
    code, body = await call(gateway, "GET", "/jobs/any", params={"wait": wait})
    assert (code, body["code"]) == (400, "invalid_query")


async def test_the_list_is_newest_first_and_has_a_cursor(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    made = []
    for number in range(5):
        _, body = await submit(gateway, modules["primes"], b"0:%d" % (number + 1))
        made.append(body["job_id"])
    seen: list[str] = []
    cursor, pages = None, 0
    while True:
        query = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        code, page = await call(gateway, "GET", "/jobs", params=query)
        assert code == 200
        seen += [job["job_id"] for job in page["jobs"]]
        pages += 1
        if (cursor := page["cursor"]) is None:
            break
    assert seen == made[::-1]
    assert pages == 3
    for limit in ("0", "501", "x"):
        assert (await call(gateway, "GET", "/jobs", params={"limit": limit}))[0] == 400


async def test_the_story_tells_every_transition_in_order(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    _, body = await submit(gateway, modules["primes"], b"0:20", {"shard_size": 10})
    await finished(gateway, body["job_id"])
    _, story = await call(gateway, "GET", f"/jobs/{body['job_id']}/story")
    kinds = [event["event_type"] for event in story["events"]]
    assert kinds[:2] == ["job_queued", "job_running"]
    assert kinds[-1] == "job_completed"
    assert (kinds.count("shard_assigned"), kinds.count("shard_done")) == (2, 2)
    seqs = [event["seq"] for event in story["events"]]
    assert seqs == sorted(set(seqs))
    _, rest = await call(
        gateway, "GET", f"/jobs/{body['job_id']}/story", params={"after": seqs[1], "limit": 2}
    )
    assert [event["seq"] for event in rest["events"]] == seqs[2:4]


async def test_shards_show_every_attempt(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    for number in range(3):
        await swarm.worker(f"worker-{number}")
    _, body = await submit(gateway, modules["trap"], b"0:5", {"shard_size": 5})
    status = await finished(gateway, body["job_id"])
    _, found = await call(gateway, "GET", f"/jobs/{body['job_id']}/shards")
    (shard,) = found["shards"]
    assert (shard["state"], shard["first_item"], shard["n_items"]) == ("dead", 0, 5)
    assert [each["attempt"] for each in shard["attempts"]] == [1, 2, 3]
    assert len({each["node_id"] for each in shard["attempts"]}) == 3
    assert all("unreachable" in each["reason"] for each in shard["attempts"])
    times = [(each["offered_at"], each["ended_at"]) for each in shard["attempts"]]
    in_turn = [time for each in times for time in each]
    assert in_turn == sorted(in_turn)
    assert status["created_at"] <= in_turn[0]
    assert in_turn[-1] <= status["finished_at"]
    assert status["progress"]["retries"] == 2


async def test_a_pruned_job_leaves_no_rows(swarm: Swarm, modules: Modules) -> None:
    clock = MovableClock()
    gateway = await swarm.gateway(clock=clock)
    await swarm.worker("worker")
    body = bytes(300_000)
    _, made = await submit(
        gateway, modules["echo"], body, {"split": "records:1000", "reduce": "concat"}
    )
    await finished(gateway, made["job_id"])
    assert (await call(gateway, "GET", f"/jobs/{made['job_id']}/result"))[1] == body
    await read_marked(gateway, made["job_id"])
    clock.offset_s += 10_000
    await collected(gateway)
    with contextlib.closing(sqlite3.connect(gateway.folder / "swarm_hub.db")) as database:
        for table in ("jobs", "shards", "assignments", "results", "blobs"):
            assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table


async def test_pruning_is_told_as_an_event(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    _, body = await submit(gateway, modules["primes"], b"0:100")
    await finished(gateway, body["job_id"])
    async with live(gateway) as client:
        await client.command("subscribe_events", since=0)
        gateway.clock.offset_s += 90_000
        await collected(gateway, unread_after_s=86400.0)
        while (message := await client.receive())["event"]["event_type"] != "job_pruned":
            continue
        assert message["event"]["data"] == {"job_id": body["job_id"]}
