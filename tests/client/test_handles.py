"""Jobs as handles: results as they come, failures with their items, time-outs, many at once."""

import asyncio
import pickle
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.client import (
    AsyncJob,
    AsyncSwarm,
    ClientError,
    JobCancelledError,
    JobFailedError,
    JobStatus,
    JobTimeoutError,
    progress,
    results,
)
from tests.conftest import Swarm

Modules = dict[str, bytes]
Start = Callable[..., Awaitable[AsyncSwarm]]


async def test_a_handle_is_the_id_of_its_job_wherever_one_is_taken(
    gateway_with_workers: Start, modules: Modules, tmp_path: Path
) -> None:
    swarm = await gateway_with_workers(1)
    job = await swarm.submit(modules["primes"], range(100), reduce="sum")
    assert isinstance(job, str)
    assert (job, {job: 1}[job.id], f"{job}") == (job.id, 1, job.id)
    assert pickle.loads(pickle.dumps(job)) == job.id
    assert type(pickle.loads(pickle.dumps(job))) is str
    assert job.state is None
    assert await job == 25
    assert (job.state, job.ended, await job.done()) == ("completed", True, True)
    assert repr(job) == f"<AsyncJob {job.id} completed>"
    status = await swarm.status(job)
    assert (await swarm.status(status)).job_id == job
    # What was kept elsewhere leads back to it.
    again = swarm.job(job.id)
    assert (await again.result(), await again.exception()) == (25, None)
    (listed,) = await swarm.jobs(wanted={"text": job.id})
    assert swarm.job(listed).state == "completed"


async def test_records_are_what_the_hub_told_with_attributes(
    gateway_with_workers: Start, modules: Modules
) -> None:
    swarm = await gateway_with_workers(1)
    job = await swarm.submit(modules["primes"], range(100), shard_size=50, labels={"a": "b"})
    status = await job.wait()
    assert status["progress"]["items_done"] == status.progress.items_done == 100
    assert status.progress.n_items == 100
    assert status.progress.fraction == 1.0
    assert status.labels == {"a": "b"}
    assert status.created_at <= status.started_at <= status.finished_at  # type: ignore[operator]
    assert sum(share.shards for share in status.nodes) == 2
    assert [attempt.state for shard in await job.shards() for attempt in shard.attempts] == [
        "finished", "finished"
    ]  # fmt: skip
    with pytest.raises(TypeError, match="take a copy"):
        status["state"] = "queued"
    with pytest.raises(TypeError, match="take a copy"):
        status.clear()
    assert pickle.loads(pickle.dumps(status)) == status
    newer = JobStatus({**status, "new_key": 1})
    assert newer["new_key"] == 1
    assert JobStatus(job_id="x").progress is None


async def test_results_come_as_shards_finish_those_first_that_are_done(
    gateway_with_workers: Start, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "_AT_ONCE", 2)
    swarm = await gateway_with_workers(2)
    job = await swarm.submit(modules["primes"], range(100), shard_size=10, reduce="sum")
    found = [each async for each in job.results()]
    assert sum(each.value for each in found) == 25
    assert sorted(each.index for each in found) == list(range(10))
    assert {each.node for each in found} <= {"worker-0", "worker-1"}
    # It has ended now, and gives the same again.
    values = [each.value async for each in swarm.results(job.id, ordered=True)]
    assert values == [4, 4, 2, 2, 3, 2, 2, 3, 2, 1]


VALUES: list[tuple[str, bytes, list[Any]]] = [
    ("concat", b"1\ntwo\n", [b"1\n", b"two\n"]),
    ("list", b'1\n"two"\nx\n', [1, "two", "x\n"]),
    ("list", b"\xff\n", [b"\xff\n"]),
    ("sum", b"+1\n0.5\n", [1.0, 0.5]),
    ("count", b"1\n", [b"1\n"]),
    ("concat", b"x" * 300_000, [b"x" * 300_000]),
]


async def test_a_value_is_what_the_reduce_reads(
    gateway_with_workers: Start, modules: Modules
) -> None:
    swarm = await gateway_with_workers(1)
    for reduce, items, values in VALUES:
        job = await swarm.submit(modules["echo"], items, reduce=reduce, shard_size=1, split="lines")
        assert [each.value async for each in job.results(ordered=True)] == values, reduce


async def test_results_of_a_job_that_fails_end_with_what_failed(
    gateway_with_workers: Start, modules: Modules
) -> None:
    swarm = await gateway_with_workers(1)
    job = await swarm.submit(modules["cat_but_x"], b"a\nb\nX\n", shard_size=1, reduce="concat")
    found = []
    with pytest.raises(JobFailedError) as caught:  # noqa: PT012
        async for each in job.results():
            found += [each.value]
    assert set(found) <= {b"a\n", b"b\n"}
    error = caught.value
    assert (error.job, error.status.state, error.item, error.node) == (job, "failed", 2, "worker-0")
    (failure,) = error.failures
    assert (failure.where, failure.nodes, failure.n_items) == ("dataset:3", ("worker-0",), 1)
    assert [each.item for each in await job.failures()] == [2]
    assert isinstance(await job.exception(), JobFailedError)


async def test_a_cancelled_job_is_told_from_one_that_failed(
    gateway_with_workers: Start, modules: Modules
) -> None:
    swarm = await gateway_with_workers(0)
    job = await swarm.submit(modules["primes"], range(100))
    assert (await job.cancel()).state == "cancelled"
    with pytest.raises(JobCancelledError, match=f"job {job} is cancelled"):
        await job
    with pytest.raises(JobCancelledError):
        async for _ in job.results():
            pass


async def test_a_time_out_cancels_the_job_or_leaves_it_and_says_which(
    gateway_with_workers: Start, modules: Modules
) -> None:
    swarm = await gateway_with_workers(0)
    job = await swarm.submit(modules["primes"], range(100))
    for late in (job.wait(timeout=0.05), job.result(timeout=0.05), swarm.gather(job, timeout=0.05)):
        with pytest.raises(JobTimeoutError):
            await late
    with pytest.raises(JobTimeoutError, match="it goes on"):
        async for _ in job.results(timeout=0.05):
            pass
    assert (await job.refresh()).state == "queued"
    again = rf"it goes on; .*: swarm\.job\('{job}'\)\.result\(\)"
    with pytest.raises(JobTimeoutError, match=again) as caught:
        await job.wait(timeout=0.05, on_timeout="leave")
    assert caught.value.job == job
    assert isinstance(caught.value, TimeoutError)
    with pytest.raises(JobTimeoutError, match="it was cancelled"):
        await job.wait(timeout=0.05, on_timeout="cancel")
    assert (await job.refresh()).state == "cancelled"
    with pytest.raises(ClientError, match="expected 'cancel' or 'leave', got 'stop'"):
        await swarm.wait(job, on_timeout="stop")  # type: ignore[arg-type]


async def test_map_cancels_what_it_submitted_unless_it_is_to_be_left(
    gateway_with_workers: Start, modules: Modules
) -> None:
    swarm = await gateway_with_workers(0)
    wanted: list[tuple[Any, str]] = [("cancel", "cancelled"), ("leave", "queued")]
    for on_timeout, state in wanted:
        with pytest.raises(JobTimeoutError) as caught:
            await swarm.map(modules["primes"], range(100), timeout=0.01, on_timeout=on_timeout)
        # Also where the time was over before the hub had answered.
        assert caught.value.job is not None
        assert (await swarm.status(caught.value.job)).state == state
        # Nothing is held any more.
        await swarm.cancel(caught.value.job)


async def test_jobs_are_given_as_they_end_and_gathered_in_their_order(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await swarm.gateway()
    async with AsyncSwarm(gateway.url, gateway.token) as client:
        jobs = [await client.submit(modules["primes"], range(n), reduce="sum") for n in (10, 100)]
        await client.cancel(jobs[0])
        ended = client.as_completed(jobs)
        assert await anext(ended) == jobs[0]
        await swarm.worker("worker")
        last = await anext(ended)
        assert (last, await last) == (jobs[1], 25)
        await ended.aclose()
        with pytest.raises(JobCancelledError):
            await client.gather(*jobs)
        more = [await client.submit(modules["primes"], range(n), reduce="sum") for n in (100, 10)]
        assert await client.gather(*more, jobs[1].id) == [25, 4, 25]
        assert await client.gather() == []


async def test_progress_is_told_on_changes_and_as_a_bar(
    gateway_with_workers: Start, modules: Modules, capsys: pytest.CaptureFixture[str]
) -> None:
    swarm = await gateway_with_workers(1)
    seen: list[JobStatus] = []
    result = await swarm.map(
        modules["spin"], range(300), shard_size=100, reduce="sum", progress=seen.append
    )
    assert result == 300
    assert seen[-1].state == "completed"
    done = [each.progress.shards_done for each in seen]
    assert done == sorted(done)
    assert done[-1] == 3
    assert await swarm.map(modules["primes"], range(100), reduce="sum", progress=True) == 25
    assert "completed" in capsys.readouterr().err


async def test_a_change_between_is_told_at_once(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only when an answer that is held for the state comes back."""
    gateway = await swarm.gateway()
    async with AsyncSwarm(gateway.url, gateway.token) as client:
        job: AsyncJob = await client.submit(modules["spin"], range(2), shard_size=1)
        seen: asyncio.Queue[JobStatus] = asyncio.Queue()
        waiting = asyncio.create_task(job.wait(progress=seen.put_nowait))
        assert (await seen.get()).state == "queued"
        await swarm.worker("worker")
        while (await seen.get()).progress.shards_done < 2:
            pass
        assert (await waiting).state == "completed"


def test_no_progress_is_no_bar() -> None:
    for wanted in (None, False):
        with progress.telling(wanted) as tell:
            assert tell is None


def test_several_jobs_are_one_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.telling(True) as tell:
        assert tell is not None
        for job_id, state, n_items, done in (
            ("a", "running", 10, 4), ("b", "completed", 20, 20), ("a", "completed", 10, 10),
            ("c", "running", 5, 1),
        ):  # fmt: skip
            counts = {"items": n_items, "items_done": done}
            tell(JobStatus(job_id=job_id, name=job_id, state=state, progress=counts))
    assert "c: running" in (said := capsys.readouterr().err)
    assert "31/35" in said


async def test_progress_is_told_of_the_end_also_where_the_status_comes_after_the_last_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states = ["running", "running", "running", "completed"]
    told: list[str] = []

    async def status(_swarm: AsyncSwarm, job: str, wait_s: int = 0) -> JobStatus:
        return JobStatus(job_id=job, state=states.pop(0))

    async def events(*_given: Any) -> AsyncGenerator[list[dict[str, Any]], None]:
        yield [{"event_type": "job_completed"}]

    monkeypatch.setattr(AsyncSwarm, "status", status)
    monkeypatch.setattr("swarm_hub.client.async_swarm.job_events", events)
    async with AsyncSwarm("http://127.0.0.1:1") as swarm:
        ended = await swarm.wait("job", progress=lambda each: told.append(each.state))
    assert (ended.state, told, states) == ("completed", ["running", "completed"], [])
