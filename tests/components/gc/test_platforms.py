"""What each platform keeps, seen through the configuration, the API and the store."""

from pathlib import Path

import pytest

from swarm_hub import bootstrap
from swarm_hub.components.gc import budget, keep_last, ttl
from swarm_hub.components.gc.collector import Collector
from swarm_hub.exceptions import ConfigError
from swarm_hub.helpers.platforms import platform_schema
from swarm_hub.storage import Store
from swarm_hub.storage.queries import jobs, pruning
from tests.conftest import MovableClock, RunningHub, Swarm, until
from tests.helpers.rest import call, finished, live, submit
from tests.helpers.sections import platforms
from tests.helpers.stored import collect, hub_on, job_ids, put_job, put_jobs, rows_of

DAY_S = 86400.0
GIB = 1024**3


async def code_of(gateway: RunningHub, job_id: str) -> int:
    """Return what a status call answers, without waiting for the job."""
    return (await call(gateway, "GET", f"/jobs/{job_id}"))[0]


@pytest.mark.parametrize(
    "keys",
    ["platform: keep_last, jobs: 1", "platform: budget, rows: 4"],
)
async def test_a_platform_of_the_configuration_removes_the_older_job(
    swarm: Swarm, modules: dict[str, bytes], keys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarm_hub.components.gc._EVERY_S", 0.02)
    gateway = await swarm.gateway(extra=f"gc: {{{keys}}}\n")
    await swarm.worker("worker")
    made = []
    for _ in range(2):
        _, body = await submit(gateway, modules["primes"], b"0:100", {"shard_size": 100})
        made.append(body["job_id"])
        await finished(gateway, made[-1])
    async with live(gateway) as client:
        await client.command("subscribe_events", since=0)
        gateway.clock.offset_s += 61
        gateway.clock.monotonic_offset_s += 61
        while (message := await client.receive())["event"]["event_type"] != "job_pruned":
            continue
        assert message["event"]["data"] == {"job_id": made[0]}
    assert [await code_of(gateway, job_id) for job_id in made] == [410, 200]


@pytest.mark.parametrize(
    ("keys", "where", "what"),
    [
        ("platform: keep_lost", "platform", "did you mean keep_last?"),
        ("platform: keep_last, jobs: 0", "jobs", "from 1 to 1000000, got 0"),
        ("platform: keep_last, job: 5", "job", "unknown key; did you mean jobs?"),
        ("platform: keep_last, completed_after: 5", "completed_after", "unknown key"),
        ("platform: budget, disk: 1KiB", "disk", "expected at least 1MiB, got '1KiB'"),
        ("platform: budget, disk: much", "disk", "a size such as 128MiB"),
        ("platform: budget, rows: 0", "rows", "from 1 to"),
        ("platform: policy", "platform", f"expected one of {', '.join(sorted(platforms('gc')))}"),
    ],
)
def test_a_wrong_key_is_told_with_its_line(
    tmp_path: Path, keys: str, where: str, what: str
) -> None:
    lines = "".join(f"  {each}\n" for each in keys.split(", "))
    text = f"gateway:\ngc:\n{lines}"
    (tmp_path / "configuration.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        bootstrap.check(tmp_path)
    line = next(n for n, each in enumerate(text.splitlines(), 1) if each.startswith(f"  {where}:"))
    assert f"configuration.yaml:{line}" in str(caught.value)
    assert what in str(caught.value)


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


async def test_a_policy_is_prepared_before_it_applies(
    store: Store, tmp_path: Path, clock: MovableClock
) -> None:
    hub = hub_on(store, tmp_path, clock)
    await put_jobs(store, [10.0, 20.0, 30.0])
    collector = Collector(hub, keep_last.create(3), "")
    schema = platform_schema("gc", default="ttl")
    await collector.prepare(schema({"platform": "keep_last", "jobs": 1}))
    await collector.collect()
    assert len(await store.read(job_ids)) == 3
    collector.apply()
    await collector.collect()
    assert len(await store.read(job_ids)) == 1


async def test_ttl_counts_from_the_reading_or_from_the_end(
    store: Store, tmp_path: Path, clock: MovableClock
) -> None:
    now = clock.time()
    await put_job(store, "read long ago", ended_at=now - 400, read_at=now - 301)
    await put_job(store, "read just now", ended_at=now - 400, read_at=now - 290)
    await put_job(store, "unread", ended_at=now - DAY_S + 10)
    await put_job(store, "unread too long", ended_at=now - DAY_S - 10)
    await put_job(store, "read but too old", ended_at=now - DAY_S - 10, read_at=now - 1)
    await collect(hub_on(store, tmp_path, clock), ttl.create(300, DAY_S))
    assert await store.read(job_ids) == ["read just now", "unread"]


async def test_keep_last_keeps_the_newest_by_their_end(
    store: Store, tmp_path: Path, clock: MovableClock
) -> None:
    hub = hub_on(store, tmp_path, clock)
    # Two ended at the same moment: exactly five stay all the same.
    await put_jobs(store, [50.0, 10.0, 40.0, 20.0, 30.0, 20.0, 60.0])
    await put_job(store, "running", ended_at=None)
    await collect(hub, keep_last.create(5))
    assert await store.read(job_ids) == [
        "job-00", "job-02", "job-04", "job-05", "job-06", "running",
    ]  # fmt: skip
    await collect(hub, keep_last.create(5))
    assert len(await store.read(job_ids)) == 6
    await collect(hub, keep_last.create(1))
    assert await store.read(job_ids) == ["job-06", "running"]


async def test_keep_last_removes_more_than_one_batch(
    store: Store, tmp_path: Path, clock: MovableClock
) -> None:
    await put_jobs(store, [float(age) for age in range(1, 60)])
    await collect(hub_on(store, tmp_path, clock), keep_last.create(3))
    assert await store.read(job_ids) == ["job-56", "job-57", "job-58"]


@pytest.mark.parametrize("policy", [keep_last.create(1), budget.create(1, 1)])
async def test_what_just_ended_can_still_be_read(
    store: Store, tmp_path: Path, clock: MovableClock, policy: object
) -> None:
    now = clock.time()
    await put_jobs(store, [now - 5, now - 10, now - 90])
    await collect(hub_on(store, tmp_path, clock), policy)  # type: ignore[arg-type]
    assert await store.read(job_ids) == ["job-00", "job-01"]


async def test_a_budget_of_rows_takes_read_jobs_first_and_then_the_oldest(
    store: Store, tmp_path: Path, clock: MovableClock
) -> None:
    await put_job(store, "a old", ended_at=10.0, n_shards=3)
    await put_job(store, "b read", ended_at=30.0, read_at=31.0, n_shards=3)
    await put_job(store, "c newer", ended_at=20.0, n_shards=3)
    await put_job(store, "d newest", ended_at=40.0, n_shards=3)
    hub = hub_on(store, tmp_path, clock)
    assert await store.read(pruning.rows_of_finished) == 40
    for rows, left in (
        (40, ["a old", "b read", "c newer", "d newest"]),
        (35, ["a old", "c newer", "d newest"]),
        (29, ["c newer", "d newest"]),
        (1, []),
    ):
        await collect(hub, budget.create(GIB, rows))
        assert await store.read(job_ids) == left


async def test_the_estimate_of_rows_is_what_the_tables_have(store: Store) -> None:
    for number, n_shards in enumerate((0, 1, 7)):
        await put_job(store, f"job-{number}", ended_at=1.0, n_shards=n_shards)
    real = 3 + sum([sum(await store.read(rows_of, f"job-{number}")) for number in range(3)])
    assert await store.read(pruning.rows_of_finished) == real


async def test_a_budget_of_bytes_leaves_as_many_jobs_as_fit(
    store: Store, tmp_path: Path, clock: MovableClock
) -> None:
    hub = hub_on(store, tmp_path, clock)
    for number in range(8):
        dataset = bytes([number]) * 1_000_000
        await put_job(store, f"job-{number}", ended_at=float(number), dataset=dataset)
    used_bytes = await store.disk_bytes()
    assert used_bytes > 8_000_000
    policy = budget.create(used_bytes - 2_500_000, 10**9)
    await collect(hub, policy)
    assert await store.read(job_ids) == [f"job-{number}" for number in range(3, 8)]
    # Files put a moment ago stay a while, and the log of the database is not yet shorter: what
    # was chosen counts as gone.
    clock.monotonic_offset_s += 70
    await collect(hub, policy)
    assert len(await store.read(job_ids)) == 5


async def test_a_budget_is_measured_once_a_minute(
    store: Store, tmp_path: Path, clock: MovableClock
) -> None:
    hub = hub_on(store, tmp_path, clock)
    policy = budget.create(GIB, 4)
    await put_jobs(store, [10.0])
    await collect(hub, policy)
    await put_job(store, "another", ended_at=20.0)
    await collect(hub, policy)
    assert len(await store.read(job_ids)) == 2
    clock.monotonic_offset_s += 61
    await collect(hub, policy)
    assert await store.read(job_ids) == ["another"]


async def test_a_result_that_was_read_is_gone_410_with_every_platform(
    swarm: Swarm, modules: dict[str, bytes]
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    _, body = await submit(gateway, modules["primes"], b"0:100")
    await finished(gateway, body["job_id"])

    async def read_at() -> float | None:
        job = await gateway.hub.store.read(jobs.get, body["job_id"])
        return None if job is None else job.read_at

    await until(read_at, lambda at: at is not None)
    gateway.clock.offset_s += 61
    await collect(gateway.hub, budget.create(GIB, 1))
    assert await code_of(gateway, body["job_id"]) == 410
