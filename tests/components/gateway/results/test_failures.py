"""What failed of a job is named by item, place and node, and the rest is kept."""

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from swarm_hub.client import SwarmClient
from swarm_hub.components.gateway.results.failures import Failures
from swarm_hub.components.sandbox import SANDBOX
from swarm_hub.components.sandbox.call import CallResult
from swarm_hub.components.scheduler import ItemsFailed, state_machine
from swarm_hub.components.scheduler.entries import ShardEntry
from swarm_hub.exceptions import StoreUnavailableError
from swarm_hub.models.job import Job, JobSpec, JobState, Split
from swarm_hub.storage import Store
from tests.conftest import MovableClock, RunningHub, Swarm, until
from tests.helpers.rest import call, finished, submit, submit_files
from tests.helpers.stored import hub_on

Modules = dict[str, bytes]

WORKERS = ("kitchen", "cellar", "attic")
BAD = b"X\n"
SAYS = "exit 3: bad row: price is empty"


def lines(*bad: int, count: int = 20) -> list[bytes]:
    return [BAD if number in bad else b"row %d\n" % number for number in range(count)]


async def gateway_with(swarm: Swarm, *workers: str) -> RunningHub:
    """Start a gateway with these workers, which are up."""
    gateway = await swarm.gateway()
    await join(swarm, gateway, *workers)
    return gateway


async def join(swarm: Swarm, gateway: RunningHub, *workers: str) -> None:
    for name in workers:
        await swarm.worker(name)
    await until(lambda: up(gateway), lambda names: set(workers) <= names)


async def up(gateway: RunningHub) -> set[str]:
    _, found = await call(gateway, "GET", "/nodes")
    return {node["name"] for node in found["nodes"] if node["state"] == "up"}


async def ended(gateway: RunningHub, job_id: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        return await finished(gateway, job_id)


async def listed(gateway: RunningHub, job_id: str, query: str = "") -> list[dict[str, Any]]:
    code, answer = await call(gateway, "GET", f"/jobs/{job_id}/failures{query}")
    assert code == 200, answer
    found: list[dict[str, Any]] = answer["failures"]
    return found


async def status_of(gateway: RunningHub, job_id: str) -> dict[str, Any]:
    _, status = await call(gateway, "GET", f"/jobs/{job_id}")
    return dict(status)


def without_nodes(told: str) -> str:
    return told.partition("; on ")[0]


def hold_single_items(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Have an item that is alone in its shard, and failed, wait for an hour; until this is set."""
    over = asyncio.Event()

    def pause_s(shard: ShardEntry) -> float:
        return 3600.0 if shard.n_items == 1 and not over.is_set() else 0.01

    monkeypatch.setattr(state_machine, "pause_s", pause_s)
    return over


async def test_one_bad_line_is_found_and_its_place_and_nodes_are_named(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await gateway_with(swarm, *WORKERS)
    files = {"prices.csv": b"".join(lines(17))}
    job_id = await submit_files(gateway, modules["cat_but_x"], files)
    status = await ended(gateway, job_id)
    assert (status["state"], status["failed_items"]) == ("failed", 0)
    (told,) = status["failures"]
    assert without_nodes(told) == f"item 17 (prices.csv:18): {SAYS}"
    nodes = told.partition("; on ")[2].replace(" and ", ", ").split(", ")
    assert sorted(nodes) == sorted(WORKERS)
    (found,) = await listed(gateway, job_id)
    assert sorted(node["name"] for node in found["nodes"]) == sorted(WORKERS)
    assert {node["node_id"] for node in found["nodes"]} == {swarm.keys(name)[0] for name in WORKERS}
    del found["nodes"], found["shard"]
    assert without_nodes(found.pop("message")) == f"item 17 (prices.csv:18): {SAYS}"
    assert found == {
        "first_item": 17,
        "n_items": 1,
        "place": "prices.csv:18",
        "state": "failed",
        "text": SAYS,
        "n_failures": 3,
    }


async def test_of_a_job_that_one_item_failed_the_others_are_kept(
    swarm: Swarm, modules: Modules
) -> None:
    """On one slot everything has its turn before the bad one has its third."""
    gateway = await swarm.gateway()
    await swarm.worker("one", extra="worker: {charging_only: false, min_battery: 0, slots: 1}\n")
    files = {"prices.csv": b"".join(lines(19))}
    job_id = await submit_files(gateway, modules["cat_but_x"], files)
    status = await ended(gateway, job_id)
    assert status["failures"] == [f"item 19 (prices.csv:20): {SAYS}; on one"]
    code, whole = await call(gateway, "GET", f"/jobs/{job_id}/result?partial=true")
    assert (code, whole) == (200, b"".join(lines()[:19]))


async def test_with_skip_the_others_are_the_result_in_order(swarm: Swarm, modules: Modules) -> None:
    gateway = await gateway_with(swarm, *WORKERS)
    files = {"prices.csv": b"".join(lines(17))}
    job_id = await submit_files(gateway, modules["cat_but_x"], files, {"on_error": "skip"})
    status = await ended(gateway, job_id)
    assert (status["state"], status["failures"], status["failed_items"]) == ("completed", [], 1)
    assert (status["progress"]["items_done"], status["progress"]["items_failed"]) == (19, 1)
    code, whole = await call(gateway, "GET", f"/jobs/{job_id}/result")
    assert (code, whole) == (200, b"".join(each for each in lines(17) if each != BAD))
    (found,) = await listed(gateway, job_id)
    assert (found["state"], found["place"]) == ("skipped", "prices.csv:18")


async def test_more_than_max_failures_fail_the_job(swarm: Swarm, modules: Modules) -> None:
    gateway = await gateway_with(swarm, *WORKERS)
    files = {"prices.csv": b"".join(lines(3, 17))}
    for most, state in ((1, "failed"), (2, "completed"), ("10%", "completed"), ("9%", "failed")):
        spec = {"on_error": "skip", "max_failures": most}
        job_id = await submit_files(gateway, modules["cat_but_x"], files, spec)
        status = await ended(gateway, job_id)
        assert (status["state"], status["failed_items"]) == (state, 2), status
        found = await listed(gateway, job_id)
        assert [each["place"] for each in found] == ["prices.csv:4", "prices.csv:18"]
        if state == "failed":
            first, *others = status["failures"]
            assert first == "2 items failed, more than max_failures: 1"
            assert {without_nodes(each) for each in others} <= {
                f"item {each['first_item']} ({each['place']}): {SAYS}" for each in found
            }


async def test_a_line_of_the_second_file_is_named_by_that_file(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await gateway_with(swarm, "kitchen")
    files = {"old.csv": b"a\nb\nc", "new.csv": b"d\nX\n"}
    job_id = await submit_files(gateway, modules["cat_but_x"], files, {"on_error": "skip"})
    await ended(gateway, job_id)
    assert [each["message"] for each in await listed(gateway, job_id)] == [
        f"item 4 (new.csv:2): {SAYS}; on kitchen"
    ]


async def test_a_file_that_is_an_item_is_named(swarm: Swarm, modules: Modules) -> None:
    gateway = await gateway_with(swarm, "kitchen")
    files = {"cat.txt": b"cat", "fox.txt": b"foX", "yak.txt": b"yak"}
    spec = {"split": "files", "on_error": "skip"}
    job_id = await submit_files(gateway, modules["cat_but_x"], files, spec)
    await ended(gateway, job_id)
    assert await call(gateway, "GET", f"/jobs/{job_id}/result") == (200, b"catyak")
    assert [each["message"] for each in await listed(gateway, job_id)] == [
        f"item 1 (fox.txt): {SAYS}; on kitchen"
    ]


async def test_of_a_range_it_is_the_number(swarm: Swarm, modules: Modules) -> None:
    gateway = await gateway_with(swarm, "kitchen")
    _, body = await submit(gateway, modules["unlucky"], b"5:9", {"on_error": "skip"})
    status = await ended(gateway, body["job_id"])
    assert (status["state"], status["result"]) == ("completed", 3)
    (found,) = await listed(gateway, body["job_id"])
    assert found["message"].startswith("item 2 (value 7): trap: unreachable")
    assert "backtrace" not in found["message"]
    _, shards = await call(gateway, "GET", f"/jobs/{body['job_id']}/shards")
    reasons = [each["reason"] for each in shards["shards"][found["shard"]]["attempts"]]
    assert all("backtrace" in reason for reason in reasons)


async def test_a_job_that_was_submitted_before_names_were_kept_has_its_numbers(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await gateway_with(swarm, "kitchen")
    files = {"prices.csv": b"".join(lines(17))}
    job_id = await submit_files(gateway, modules["cat_but_x"], files)
    await ended(gateway, job_id)
    await swarm.stop(gateway)
    gateway = await swarm.gateway()
    await gateway.hub.store.change(
        lambda connection: connection.execute(text("UPDATE jobs SET parts_sha = NULL")) and None
    )
    (found,) = await listed(gateway, job_id)
    assert (found["place"], found["message"]) == (None, f"item 17: {SAYS}; on kitchen")


async def test_texts_that_differ_in_what_is_not_told_are_told_once(
    store: Store, tmp_path: Path
) -> None:
    spec = JobSpec("wasi", "_start", Split.LINES, 0, "concat")
    job = Job("job", JobState.RUNNING, spec, "m", 1, "d", 20, 1, 0, 0.0, "owner")
    found = (
        "2 items failed",
        ItemsFailed(3, 1, "trap: gone\nwasm backtrace:\n at 0x1", ("12D3KooWkitchen",)),
        ItemsFailed(3, 1, "trap: gone\nwasm backtrace:\n at 0x2", ("12D3KooW1cellar",)),
        ItemsFailed(3, 1, "exit: 3: no", ("12D3KooW1cellar",)),
    )
    told = await Failures(hub_on(store, tmp_path, MovableClock())).told(job, found)
    assert told == (
        "2 items failed",
        "item 3: trap: gone; on Wkitchen and W1cellar",
        "item 3: exit 3: no; on W1cellar",
    )


async def test_a_fault_in_telling_does_not_keep_a_job_from_its_end(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks(*_: Any) -> tuple[str, ...]:
        raise RuntimeError("no words")

    monkeypatch.setattr(Failures, "_told", breaks)
    gateway = await gateway_with(swarm, "kitchen")
    _, body = await submit(gateway, modules["cat_but_x"], BAD)
    status = await ended(gateway, body["job_id"])
    short = swarm.keys("kitchen")[0][-8:]
    assert (status["state"], status["failures"]) == ("failed", [f"item 0: {SAYS}; on {short}"])


async def test_a_store_that_is_away_is_no_fault_in_telling(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def away(*_: Any) -> None:
        raise StoreUnavailableError("postgresql://db/d: connection refused")

    monkeypatch.setattr(Store, "read", away)
    spec = JobSpec("range", "map", Split.RANGE, 0, "sum")
    job = Job("job", JobState.RUNNING, spec, "m", 1, "d", 20, 1, 0, 0.0, "owner")
    found = (ItemsFailed(3, 1, "trap: gone", ("12D3KooWkitchen",)),)
    told = await Failures(hub_on(store, tmp_path, MovableClock())).told(job, found)
    assert told == ("item 3: trap: gone; on Wkitchen",)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_what_succeeded_in_the_end_is_not_listed(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    worker = await swarm.worker("kitchen")
    sandbox = worker.hub.services[SANDBOX].sandbox
    right, luck = sandbox.run, ["none"]

    async def run(*args: Any, **keys: Any) -> CallResult:
        result: CallResult = await right(*args, **keys)
        if luck:
            return dataclasses.replace(result, code="exit: 9", text=f"{luck.pop()} luck")
        return result

    sandbox.run = run  # type: ignore[method-assign]
    job_id = await submit_files(gateway, modules["cat_but_x"], {"a.csv": b"".join(lines())})
    status = await ended(gateway, job_id)
    assert (status["state"], status["problem"]) == ("completed", None)
    _, story = await call(gateway, "GET", f"/jobs/{job_id}/story")
    assert sum(event["event_type"] == "shard_failed" for event in story["events"]) == 1
    assert await listed(gateway, job_id) == []


async def test_they_come_in_pages_in_item_order(swarm: Swarm, modules: Modules) -> None:
    gateway = await gateway_with(swarm, "kitchen")
    files = {"prices.csv": b"".join(lines(2, 9, 17))}
    job_id = await submit_files(gateway, modules["cat_but_x"], files, {"on_error": "skip"})
    await ended(gateway, job_id)
    _, first = await call(gateway, "GET", f"/jobs/{job_id}/failures?limit=2")
    assert [each["first_item"] for each in first["failures"]] == [2, 9]
    assert first["cursor"] == "9"
    _, rest = await call(gateway, "GET", f"/jobs/{job_id}/failures?limit=2&cursor=9")
    assert [each["first_item"] for each in rest["failures"]] == [17]
    assert rest["cursor"] is None
    async with SwarmClient(gateway.url, gateway.token) as client:
        found = [each["place"] async for each in client.failures(job_id)]
    assert found == ["prices.csv:3", "prices.csv:10", "prices.csv:18"]
    code, answer = await call(gateway, "GET", f"/jobs/{job_id}/failures?cursor=x")
    assert (code, answer["code"]) == (400, "invalid_query")
    code, _ = await call(gateway, "GET", "/jobs/01NONE/failures")
    assert code == 404


async def test_while_it_is_tried_again_the_status_says_what_the_problem_is(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = hold_single_items(monkeypatch)
    gateway = await swarm.gateway()
    worker = await swarm.worker("kitchen")
    files = {"prices.csv": b"".join(lines(17))}
    job_id = await submit_files(gateway, modules["cat_but_x"], files, {"on_error": "skip"})

    async def problem() -> Any:
        return (await status_of(gateway, job_id))["problem"]

    told = f"item 17 (prices.csv:18): {SAYS}; on kitchen; tried once so far"
    await until(problem, lambda text: text == told)
    (found,) = await until(lambda: listed(gateway, job_id), bool)
    assert (found["state"], found["n_failures"]) == ("retrying", 1)
    await swarm.stop(worker)
    await swarm.stop(gateway)
    gateway = await swarm.gateway()
    assert await problem() == told
    over.set()
    await swarm.worker("kitchen")
    status = await ended(gateway, job_id)
    assert (status["problem"], status["failed_items"]) == (None, 1)


async def test_a_restart_between_the_split_and_the_end_keeps_each_item_once(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = hold_single_items(monkeypatch)
    gateway = await gateway_with(swarm, *WORKERS)
    files = {"prices.csv": b"".join(lines(4, 17))}
    job_id = await submit_files(gateway, modules["cat_but_x"], files, {"on_error": "skip"})

    async def done() -> Any:
        return (await status_of(gateway, job_id))["progress"]["items_done"]

    await until(done, lambda items: items == 18)
    await swarm.stop(gateway)
    over.set()
    gateway = await swarm.gateway()
    status = await ended(gateway, job_id)
    assert (status["state"], status["failed_items"]) == ("completed", 2)
    good = [each for each in lines(4, 17) if each != BAD]
    assert await call(gateway, "GET", f"/jobs/{job_id}/result") == (200, b"".join(good))
    ranges = await gateway.hub.store.read(counted_ranges)
    items = [item for first, n_items in ranges for item in range(first, first + n_items)]
    assert items == [number for number in range(20) if number not in (4, 17)]


def counted_ranges(connection: Connection) -> list[tuple[int, int]]:
    query = "SELECT first_item, n_items FROM results WHERE counted = 1 ORDER BY first_item"
    return [(first, n_items) for first, n_items in connection.execute(text(query))]
