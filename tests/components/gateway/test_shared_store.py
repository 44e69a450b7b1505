"""Gateways on one PostgreSQL: a job is visible and finishes through any of them, once."""

import asyncio
from collections import Counter
from functools import partial
from typing import Any

import psycopg
import pytest

from swarm_hub.exceptions import SetupError, StoreFencedError
from swarm_hub.models.event import EventType, NewEvent
from swarm_hub.storage import Fence
from swarm_hub.storage.queries import jobs, leases, shard_results
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.postgres import PostgresServer
from tests.helpers.rest import call, finished, form, live, submit

Modules = dict[str, bytes]
JOB_EVENTS = ("job_queued", "job_running", "job_completed")


async def two_gateways(swarm: Swarm, url: str) -> tuple[RunningHub, RunningHub]:
    extra = f"storage: {{url: '{url}'}}\n"
    return (
        await swarm.gateway("first", extra=extra),
        await swarm.gateway("second", extra=extra),
    )


async def slow_job(hub: RunningHub, modules: Modules, shards: int = 20) -> str:
    """Submit a job of shards that take about a tenth of a second each; returns its id."""
    spec = {"abi": "range", "split": "range", "shard_size": 100, "reduce": "sum"}
    _, body = await submit(hub, modules["spin"], b"0 %d\n" % (100 * shards), spec)
    return str(body["job_id"])


async def shards_done(hub: RunningHub, job_id: str) -> int:
    _, status = await call(hub, "GET", f"/jobs/{job_id}")
    return int(status["progress"]["shards_done"])


async def counted(hub: RunningHub, job_id: str) -> Counter[int]:
    """Count the results that the store has, by shard."""
    return Counter(each.index for each in await hub.hub.store.read(shard_results.of_job, job_id))


async def test_a_job_is_visible_and_its_result_read_through_the_other(
    swarm: Swarm, modules: Modules, postgres_url: str
) -> None:
    first, second = await two_gateways(swarm, postgres_url)
    await swarm.worker("worker", "first")
    job_id = await slow_job(first, modules)
    done = await until(lambda: shards_done(second, job_id), lambda count: count > 0)
    assert done < 20
    status = await finished(second, job_id)
    assert (status["state"], status["result"]) == ("completed", 2000)
    _, listed = await call(second, "GET", "/jobs")
    assert [job["progress"]["shards_done"] for job in listed["jobs"]] == [20]
    assert (await call(second, "GET", f"/jobs/{job_id}/result"))[1] == 2000
    # Whoever was told the end finds it in the story, whichever gateway numbers it.
    _, story = await call(second, "GET", f"/jobs/{job_id}/story")
    assert story["events"][-1]["event_type"] == "job_completed"


async def test_what_was_done_of_a_failed_job_is_read_through_the_other(
    swarm: Swarm, modules: Modules, postgres_url: str
) -> None:
    first, second = await two_gateways(swarm, postgres_url)
    await swarm.worker("worker", "first")
    records = [letter * 70_000 for letter in (b"A", b"X", b"C")]
    spec = {"split": "records:70000", "reduce": "concat", "shard_size": 1}
    _, body = await submit(first, modules["joins_but_x"], b"".join(records), spec)
    status = await finished(second, body["job_id"])
    assert (status["state"], status["progress"]["items_done"]) == ("failed", 2)
    code, result = await call(second, "GET", f"/jobs/{body['job_id']}/result?partial=true")
    assert (code, result == records[0] + records[2]) == (200, True)


async def test_a_large_dataset_is_read_by_the_gateway_that_takes_over(
    swarm: Swarm, modules: Modules, postgres_url: str
) -> None:
    """Its blob is in the store, not in a file of the gateway that took the job in."""
    first, second = await two_gateways(swarm, postgres_url)
    data = b"".join(b"%07d\n" % number for number in range(50_000))
    spec = {"split": "lines", "reduce": "concat", "shard_size": 5000}
    _, body = await submit(first, modules["cat"], data, spec)
    await swarm.stop(first)
    await swarm.worker("worker", "second")
    assert (await finished(second, body["job_id"]))["state"] == "completed"
    _, result = await call(second, "GET", f"/jobs/{body['job_id']}/result")
    assert result == data


async def test_one_idempotency_key_is_one_job_whichever_gateway_is_asked(
    swarm: Swarm, modules: Modules, postgres_url: str
) -> None:
    both = await two_gateways(swarm, postgres_url)
    spec = {"abi": "range", "split": "range"}
    answers = await asyncio.gather(
        *(
            call(
                hub, "POST", "/jobs", data=form(modules["primes"], b"0 100\n", spec),
                headers={"Idempotency-Key": f"key-{number}"},
            )
            for number in range(5)
            for hub in (*both, *both)
        )
    )  # fmt: skip
    assert {status for status, _ in answers} == {202}
    ids = [body["job_id"] for _, body in answers]
    assert [len(set(ids[at : at + 4])) for at in range(0, 20, 4)] == [1] * 5
    conflict, body = await call(
        both[1], "POST", "/jobs", data=form(modules["primes"], b"0 200\n", spec),
        headers={"Idempotency-Key": "key-0"},
    )  # fmt: skip
    assert (conflict, body["code"]) == (409, "idempotency_conflict")


async def test_a_job_is_changed_through_the_other_gateway(
    swarm: Swarm, modules: Modules, postgres_url: str
) -> None:
    first, second = await two_gateways(swarm, postgres_url)
    job_id = await slow_job(first, modules)
    for change in ({"priority": 5}, {"labels": {"a": "b"}}, {"priority": 6, "deadline_s": 900}):
        code, status = await call(second, "PATCH", f"/jobs/{job_id}", json=change)
        assert code == 200
        assert {name: status["spec"][name] for name in change} == {
            name: [["a", "b"]] if name == "labels" else value for name, value in change.items()
        }
    _, status = await call(first, "GET", f"/jobs/{job_id}")
    assert (status["spec"]["priority"], status["labels"]) == (6, {"a": "b"})
    _, story = await call(second, "GET", f"/jobs/{job_id}/story")
    told = [event["event_type"] for event in story["events"]]
    assert told.count("job_changed") == 3
    # Whoever takes the job over has it, too.
    await swarm.stop(first)
    await until(
        lambda: call(second, "PATCH", f"/jobs/{job_id}", json={"priority": 7}),
        lambda seen: seen[0] == 200,
        30,
    )
    _, cancelled = await call(second, "POST", "/jobs/cancel", json={"ids": [job_id]})
    assert cancelled["jobs"][0]["cancelled"]
    code, _ = await call(second, "PATCH", f"/jobs/{job_id}", json={"priority": 8})
    assert code == 409


async def test_a_job_is_cancelled_through_the_other_gateway(
    swarm: Swarm, modules: Modules, postgres_url: str
) -> None:
    first, second = await two_gateways(swarm, postgres_url)
    job_id = await slow_job(first, modules)
    _, status = await call(second, "DELETE", f"/jobs/{job_id}")
    assert status["state"] == "cancelled"
    await first.hub.store.catch_up()
    assert first.hub.store.last_seq >= 2


async def test_a_gateway_that_stops_leaves_its_jobs_to_the_other_at_once(
    swarm: Swarm, modules: Modules, postgres_url: str
) -> None:
    first, second = await two_gateways(swarm, postgres_url)
    await swarm.worker("worker", "first", "second")
    # Little enough that even a busy machine ends it before a lease would run out.
    job_id = await slow_job(first, modules, 6)
    await until(lambda: shards_done(first, job_id), lambda count: count > 1)
    await swarm.stop(first)
    async with asyncio.timeout(8):
        status = await finished(second, job_id)
    assert (status["state"], status["result"]) == ("completed", 600)
    assert await counted(second, job_id) == Counter(range(6))


async def test_a_frozen_gateway_that_wakes_up_counts_nothing_twice(
    swarm: Swarm, modules: Modules, postgres_url: str, postgres_server: PostgresServer
) -> None:
    """Its lease ran out and its jobs were taken over while it still thinks they are its own."""
    first, second = await two_gateways(swarm, postgres_url)
    await swarm.worker("worker", "first", "second")
    job_id = await slow_job(first, modules, 30)
    await until(lambda: shards_done(first, job_id), lambda count: count > 1)
    name = postgres_url.rpartition("/")[2]
    with postgres_server.connect(name) as database:
        owner = database.execute("SELECT gateway FROM jobs").fetchone()
        database.execute("UPDATE gateways SET alive_until = 0 WHERE name = %s", owner)
        # The other one looks at once, before the first renews its lease.
        database.execute("SELECT pg_notify('swarm_hub', 'a test:asked')")

        async def owner_now() -> Any:
            return database.execute("SELECT gateway FROM jobs").fetchone()

        await until(owner_now, lambda now: now != owner)
    status = await finished(first, job_id)
    assert (status["state"], status["result"]) == ("completed", 3000)
    assert await counted(second, job_id) == Counter(range(30))


async def test_a_commit_by_an_older_epoch_changes_nothing(
    swarm: Swarm, modules: Modules, postgres_url: str
) -> None:
    first, _ = await two_gateways(swarm, postgres_url)
    job_id = await slow_job(first, modules)
    store = first.hub.store
    me = (await store.read(leases.owner, job_id)) or ""
    with pytest.raises(StoreFencedError):
        await store.commit([jobs.mark_read(job_id, 1.0)], fence=Fence(me, {job_id: 0}))
    await store.commit([jobs.start([job_id], 1.0)], fence=Fence(me, {job_id: 1}))
    job = await store.read(jobs.get, job_id)
    assert job is not None
    assert (job.read_at, job.started_at) == (None, 1.0)


async def test_a_client_that_moves_to_the_other_gateway_misses_no_event(
    swarm: Swarm, modules: Modules, postgres_url: str
) -> None:
    first, second = await two_gateways(swarm, postgres_url)
    await swarm.worker("worker", "first", "second")
    spec = {"abi": "range", "split": "range"}
    heard: list[dict[str, Any]] = []
    for number in range(6):
        hub, other = (first, second) if number % 2 else (second, first)
        _, body = await submit(hub, modules["primes"], b"0 100\n", spec)
        await finished(hub, body["job_id"])
        since = heard[-1]["seq"] if heard else 0
        async with live(other) as client:
            answer = await client.command("subscribe_events", since=since)
            assert answer["result"]["events_lost"] is False
            while not heard or heard[-1]["seq"] < answer["result"]["last_seq"]:
                heard.append((await client.receive())["event"])
    assert [event["seq"] for event in heard] == list(range(1, len(heard) + 1))
    kinds = Counter(event["event_type"] for event in heard)
    assert {kind: kinds[kind] for kind in JOB_EVENTS} == dict.fromkeys(JOB_EVENTS, 6)


async def test_what_two_gateways_commit_at_once_the_websockets_of_both_hear_whole(
    swarm: Swarm, postgres_url: str
) -> None:
    both = await two_gateways(swarm, postgres_url)

    async def write(writer: int) -> None:
        for number in range(40):
            told = {"writer": writer, "number": number}
            await both[writer].hub.store.commit([], [NewEvent(EventType.COMPONENT_FAILED, told)])

    async def hear(hub: RunningHub) -> list[dict[str, Any]]:
        heard: list[dict[str, Any]] = []
        async with live(hub) as client:
            begins = await client.command("subscribe_events", since=0)
            assert begins["success"]
            begun.release()
            while sum(event["event_type"] == "component_failed" for event in heard) < 80:
                heard.append((await client.receive())["event"])
        return heard

    begun = asyncio.Semaphore(0)
    hearing = [asyncio.create_task(hear(hub)) for hub in both]
    await begun.acquire()
    await asyncio.gather(write(0), write(1))
    async with asyncio.timeout(20):
        streams = await asyncio.gather(*hearing)
    for heard in streams:
        assert [event["seq"] for event in heard] == list(range(1, len(heard) + 1))
        told = [each["data"] for each in heard if each["event_type"] == "component_failed"]
        for writer in (0, 1):
            numbers = [data["number"] for data in told if data["writer"] == writer]
            assert numbers == list(range(40))


async def test_a_ban_holds_at_every_gateway(swarm: Swarm, postgres_url: str) -> None:
    first, second = await two_gateways(swarm, postgres_url)
    await swarm.worker("worker", "first", "second")

    async def states() -> list[str]:
        found = [await call(hub, "GET", "/nodes") for hub in (first, second)]
        return [node["state"] for _, body in found for node in body["nodes"]]

    await until(states, lambda now: now == ["up", "up"])
    _, body = await call(first, "GET", "/nodes")
    node_id = body["nodes"][0]["node_id"]
    await call(first, "POST", f"/nodes/{node_id}/ban", json={"reason": "a test"})
    await until(states, lambda now: now == ["banned", "banned"])
    await call(second, "POST", f"/nodes/{node_id}/unban")
    await until(states, lambda now: now == ["up", "up"])


async def test_a_worker_does_not_share_its_inbox(swarm: Swarm, postgres_url: str) -> None:
    with pytest.raises(SetupError, match="a worker keeps what it accepted in a store of its own"):
        await swarm.start("worker", f"worker:\nstorage: {{url: '{postgres_url}'}}\n")


async def test_a_server_that_is_not_there_is_named_without_its_password(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarm_hub.storage.engine.postgres._LONG_PATIENCE_S", 0.2)
    with pytest.raises(Exception, match="storage: url is right") as refused:
        await swarm.gateway(extra="storage: {url: 'postgresql://me:secret@127.0.0.1:1/x'}\n")
    assert "secret" not in str(refused.value)


async def test_a_lost_backend_is_neither_noticed_nor_counted_twice(
    swarm: Swarm, modules: Modules, postgres_url: str, postgres_server: PostgresServer
) -> None:
    first, _ = await two_gateways(swarm, postgres_url)
    await swarm.worker("worker", "first")
    job_id = await slow_job(first, modules, 30)
    name = postgres_url.rpartition("/")[2]
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
    for want in (1, 5, 9):
        await until(lambda: shards_done(first, job_id), lambda count, want=want: count >= want)
        with postgres_server.connect("postgres") as administrator:
            administrator.execute(query, [name])
    status = await finished(first, job_id)
    assert (status["state"], status["result"]) == ("completed", 3000)
    assert await counted(first, job_id) == Counter(range(30))


def test_the_server_of_these_tests_is_a_real_one(postgres_server: PostgresServer) -> None:
    with postgres_server.connect("postgres") as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
        assert isinstance(connection, psycopg.Connection)


async def test_a_gateway_that_froze_in_a_transaction_holds_nobody_up(
    swarm: Swarm, modules: Modules, postgres_url: str, postgres_server: PostgresServer
) -> None:
    """To the server it is busy for ever; its session is ended when its lease has run out."""
    first, second = await two_gateways(swarm, postgres_url)
    await swarm.worker("worker", "second")
    job_id = await slow_job(first, modules, 3)
    name = postgres_url.rpartition("/")[2]
    with (
        postgres_server.connect(name) as watcher,
        psycopg.connect(postgres_url, application_name=leases.session_of("ghost")) as frozen,
    ):
        frozen.execute("UPDATE jobs SET gateway = 'ghost'")
        watcher.execute("INSERT INTO gateways VALUES ('ghost', 1, 0)")
        # Before this the other gateway has nothing to take over, and holds no row itself.
        await swarm.stop(first)
        assert (await finished(second, job_id))["result"] == 300
        with pytest.raises(psycopg.OperationalError):
            frozen.execute("SELECT 1")


async def test_what_nodes_earned_at_one_gateway_counts_at_the_other(
    swarm: Swarm, modules: Modules, postgres_url: str
) -> None:
    first, second = await two_gateways(swarm, postgres_url)
    for name in ("one", "two"):
        await swarm.worker(name, "first", "second")

    async def trust(hub: RunningHub) -> list[dict[str, Any]]:
        _, found = await call(hub, "GET", "/nodes")
        return sorted((node["trust"] for node in found["nodes"] if node["slots"]), key=str)

    # A gateway that has none yet would hand its job to the other one.
    for fresh in [
        await until(partial(trust, hub), lambda found: len(found) == 2) for hub in (first, second)
    ]:
        assert [each["agreements"] for each in fresh] == [0, 0]
    spec = {"shard_size": 5, "redundancy": "adaptive"}
    _, body = await submit(first, modules["primes"], b"0:200", spec)
    assert (await finished(first, body["job_id"]))["result"] == 46
    # Who is trusted first may do the rest alone, before the other is. What a gateway knows may be
    # as old as what it last read of the store.
    await until(partial(trust, first), lambda found: any(each["trusted"] for each in found))

    async def differ() -> bool:
        return await trust(first) != await trust(second)

    await until(differ, lambda still: not still)
