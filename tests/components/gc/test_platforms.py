"""What each platform keeps, seen through the configuration, the API and the store."""

import shutil
from pathlib import Path

import pytest

from swarm_hub import bootstrap
from swarm_hub.components.gc import budget, keep_last, ttl
from swarm_hub.components.gc.collector import Collector
from swarm_hub.exceptions import ConfigError
from swarm_hub.helpers.platforms import platform_schema
from swarm_hub.storage import Store
from swarm_hub.storage.queries import jobs, pruning
from swarm_hub.util.units import format_size
from tests.conftest import MovableClock, RunningHub, Swarm, until
from tests.helpers.rest import call, finished, live, submit
from tests.helpers.sections import platforms
from tests.helpers.stored import (
    collect,
    events_of,
    hub_on,
    job_ids,
    put_job,
    put_jobs,
    rows_of,
    tell_of_job,
)

DAY_S = 86400.0
GIB = 1024**3


async def code_of(gateway: RunningHub, job_id: str) -> int:
    """Return what a status call answers, without waiting for the job."""
    return (await call(gateway, "GET", f"/jobs/{job_id}"))[0]


@pytest.mark.parametrize(
    "keys",
    ["platform: keep_last, jobs: 1", "platform: budget, rows: 9", "platform: budget, keep: 1m"],
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
        gateway.clock.offset_s += 31
    async with live(gateway) as client:
        await client.command("subscribe_events", since=0)
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
        ("platform: keep_last, completed_after: 5", "completed_after", "a key of platform: ttl"),
        ("platform: budget, disk: 1KiB", "disk", "expected at least 1MiB, got '1KiB'"),
        ("platform: budget, disk: much", "disk", "a size such as 128MiB"),
        ("platform: budget, rows: 0", "rows", "from 1 to"),
        ("platform: budget, keep: soon", "keep", "a duration such as 300 or 24h"),
        ("platform: budget, keep: -1", "keep", "must be finite and not negative"),
        ("disk: 5GiB, unread_after: 1h", "unread_after", "a key of platform: ttl, not of budget"),
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
    schema = platform_schema("gc", default="budget")
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


@pytest.mark.parametrize(
    "policy", [keep_last.create(1), budget.create(None, 1, 1), budget.create(0, GIB, 10**9)]
)
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
    assert await store.read(pruning.rows_of_finished) == 76
    for rows, left in (
        (76, ["a old", "b read", "c newer", "d newest"]),
        (70, ["a old", "c newer", "d newest"]),
        (56, ["c newer", "d newest"]),
        (1, []),
    ):
        await collect(hub, budget.create(None, GIB, rows))
        assert await store.read(job_ids) == left


async def test_the_estimate_of_rows_is_what_the_tables_have(store: Store) -> None:
    for number, n_shards in enumerate((0, 1, 7)):
        await put_job(store, f"job-{number}", ended_at=1.0, n_shards=n_shards)
        await tell_of_job(store, f"job-{number}", n_shards)
    real = 3 + store.last_seq
    real += sum([sum(await store.read(rows_of, f"job-{number}")) for number in range(3)])
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
    policy = budget.create(None, used_bytes - 2_500_000, 10**9)
    await collect(hub, policy)
    assert await store.read(job_ids) == [f"job-{number}" for number in range(3, 8)]
    # Files put a moment ago stay a while, and the log of the database is not yet shorter: what
    # was chosen counts as gone.
    clock.monotonic_offset_s += 70
    await collect(hub, policy)
    assert len(await store.read(job_ids)) == 5


async def test_a_budget_keeps_a_job_for_so_long_whoever_read_it(
    store: Store, tmp_path: Path, clock: MovableClock
) -> None:
    now = clock.time()
    await put_job(store, "read", ended_at=now - 6 * DAY_S, read_at=now - 6 * DAY_S)
    await put_job(store, "old", ended_at=now - 8 * DAY_S)
    await put_job(store, "old and read", ended_at=now - 8 * DAY_S, read_at=now - 60)
    await put_job(store, "running", ended_at=None)
    hub = hub_on(store, tmp_path, clock)
    await collect(hub, budget.create(None, GIB, 10**6))
    assert len(await store.read(job_ids)) == 4
    await collect(hub, budget.create(7 * DAY_S, GIB, 10**6))
    assert await store.read(job_ids) == ["read", "running"]


async def test_what_goes_by_its_age_counts_for_the_space_too(
    store: Store, tmp_path: Path, clock: MovableClock
) -> None:
    hub = hub_on(store, tmp_path, clock)
    for number in range(8):
        dataset = bytes([number]) * 1_000_000
        ended_at = clock.time() - (9 - number) * DAY_S
        await put_job(store, f"job-{number}", ended_at=ended_at, dataset=dataset)
    used_bytes = await store.disk_bytes()
    await collect(hub, budget.create(6.5 * DAY_S, used_bytes - 2_500_000, 10**9))
    # Three are too old, and the rest fits.
    assert await store.read(job_ids) == [f"job-{number}" for number in range(3, 8)]


async def test_a_budget_takes_no_more_than_a_tenth_of_the_volume_and_says_so_once(
    store: Store,
    tmp_path: Path,
    clock: MovableClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    hub = hub_on(store, tmp_path, clock)
    for number in range(8):
        dataset = bytes([number]) * 1_000_000
        await put_job(store, f"job-{number}", ended_at=float(number), dataset=dataset)
    used_bytes = await store.disk_bytes()
    volume = shutil.disk_usage(tmp_path)
    assert await store.volume_bytes() == volume.total
    small = volume._replace(total=10 * (used_bytes - 2_500_000))
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: small)
    policy = budget.create(None, GIB, 10**9)
    await collect(hub, policy)
    clock.monotonic_offset_s += 61
    await collect(hub, policy)
    assert await store.read(job_ids) == [f"job-{number}" for number in range(3, 8)]
    told = [record.message for record in caplog.records if "gc: disk" in record.message]
    assert told == [
        f"The store may take {format_size(used_bytes - 2_500_000)}, which is 10 % of its volume, "
        "instead of gc: disk (1.0 GiB)"
    ]


async def test_a_large_volume_leaves_the_budget_as_it_is(
    store: Store, tmp_path: Path, clock: MovableClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await collect(hub_on(store, tmp_path, clock), budget.create(None, 1024 * 1024, 10**9))
    assert "volume" not in caplog.text


@pytest.mark.parametrize(
    "policy", [budget.create(7 * DAY_S, GIB, 10**6), budget.create(None, 1, 1)]
)
async def test_with_a_budget_the_events_of_a_job_go_with_it(
    store: Store, tmp_path: Path, clock: MovableClock, policy: budget.Budget
) -> None:
    await put_job(store, "old", ended_at=10.0, n_shards=3)
    await tell_of_job(store, "old", 3)
    await put_job(store, "running", ended_at=None, n_shards=2)
    await tell_of_job(store, "running", 2)
    await collect(hub_on(store, tmp_path, clock), policy)
    assert await store.read(events_of, "old") == ["job_pruned"]
    assert len(await store.read(events_of, "running")) == 7


async def test_with_other_platforms_they_stay_for_a_day(
    store: Store, tmp_path: Path, clock: MovableClock
) -> None:
    hub = hub_on(store, tmp_path, clock)
    await put_jobs(store, [10.0, 20.0, 30.0])
    await tell_of_job(store, "job-00")
    await collect(hub, ttl.create(0, DAY_S))
    assert await store.read(job_ids) == []
    assert (await store.read(events_of, "job-00"))[-2:] == ["job_completed", "job_pruned"]
    clock.offset_s += DAY_S - 60
    await collect(hub, ttl.create(0, DAY_S))
    assert (await store.read(events_of, "job-00"))[-2:] == ["job_completed", "job_pruned"]
    clock.offset_s += 120
    await collect(hub, ttl.create(0, DAY_S))
    assert await store.read(events_of, "job-00") == []


async def test_a_budget_is_measured_once_a_minute(
    store: Store, tmp_path: Path, clock: MovableClock
) -> None:
    hub = hub_on(store, tmp_path, clock)
    policy = budget.create(None, GIB, 9)
    await put_jobs(store, [10.0])
    await collect(hub, policy)
    await put_job(store, "another", ended_at=20.0)
    await collect(hub, policy)
    assert len(await store.read(job_ids)) == 2
    clock.monotonic_offset_s += 61
    await collect(hub, policy)
    assert await store.read(job_ids) == ["another"]


async def test_by_default_a_job_that_was_read_is_there_for_a_week_with_its_story(
    swarm: Swarm, modules: dict[str, bytes]
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    _, body = await submit(gateway, modules["primes"], b"0:100")
    await finished(gateway, body["job_id"])
    job = f"/jobs/{body['job_id']}"
    assert (await call(gateway, "GET", f"{job}/result"))[1] == 25
    collector = gateway.hub.reloaders["gc"]
    assert isinstance(collector, Collector)
    gateway.clock.offset_s += 6.9 * DAY_S
    await collector.collect()
    assert (await call(gateway, "GET", f"{job}/result"))[1] == 25
    _, story = await call(gateway, "GET", f"{job}/story")
    kinds = [each["event_type"] for each in story["events"]]
    assert (kinds[0], kinds[-1]) == ("job_queued", "job_completed")
    gateway.clock.offset_s += 0.2 * DAY_S
    await collector.collect()
    assert await code_of(gateway, body["job_id"]) == 410


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
    await collect(gateway.hub, budget.create(None, GIB, 1))
    assert await code_of(gateway, body["job_id"]) == 410
