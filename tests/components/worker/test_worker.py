"""The worker: when it takes work, and that what it took is done once and delivered."""

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.components.mesh import MESH
from swarm_hub.components.sandbox import SANDBOX, CallResult
from swarm_hub.components.telemetry import TELEMETRY
from swarm_hub.components.telemetry.probe import Probe
from swarm_hub.components.worker import power_policy
from swarm_hub.control import client
from swarm_hub.models.node import Telemetry
from swarm_hub.util.owners_use import OwnersUse
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.programs import first_on_path
from tests.helpers.rest import call, finished, submit

Modules = dict[str, bytes]
BATTERY = Telemetry(battery_percent=95.0, charging=True, temperature_c=30.0)


async def the_node(gateway: RunningHub) -> dict[str, Any]:
    _, body = await call(gateway, "GET", "/nodes")
    return body["nodes"][0] if body["nodes"] else {"state": None, "refuses": None}


def peer_id(hub: RunningHub) -> str:
    return hub.hub.services[MESH].peer_id


async def attempts(gateway: RunningHub, job_id: str) -> list[tuple[str, str | None]]:
    """Return the state of each attempt at a job's shards, and the reason for it."""
    _, found = await call(gateway, "GET", f"/jobs/{job_id}/shards?limit=5000")
    return [
        (attempt["state"], attempt["reason"])
        for shard in found["shards"]
        for attempt in shard["attempts"]
    ]


async def spinning(
    swarm: Swarm, gateway: RunningHub, module: bytes, options: str, ms: int, ms_each: int
) -> tuple[RunningHub, str, Callable[[], Awaitable[set[str]]]]:
    """Have a plugged phone work; returns it, its job, and what tells the shards it is on."""
    phone = await swarm.worker("phone", extra=f"worker: {{battery_unknown: run, {options}}}\n")
    board = phone.hub.services[TELEMETRY]
    await board.own_known.wait()
    board.own = BATTERY
    spec = {"abi": "range", "split": "range", "reduce": "sum", "shard_size": ms_each}
    _, body = await submit(gateway, module, b"0:%d" % ms, spec)
    sandbox = phone.hub.services[SANDBOX].sandbox

    async def begun() -> set[str]:
        return sandbox.begun()

    await until(begun, bool)
    return phone, str(body["job_id"]), begun


@pytest.mark.slow
async def test_a_phone_that_is_unplugged_takes_no_work_and_says_why(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await swarm.gateway()
    phone = await swarm.worker("phone", extra="worker: {charging_only: true}\n")
    board = phone.hub.services[TELEMETRY]
    await board.own_known.wait()
    board.own = Telemetry(battery_percent=95.0, charging=False)
    node = await until(lambda: the_node(gateway), lambda node: node["refuses"] is not None)
    assert node["refuses"] == "not charging"
    _, body = await submit(gateway, modules["primes"], b"0:100")
    other = await swarm.worker("desktop")
    status = await finished(gateway, body["job_id"])
    assert [share["node_id"] for share in status["nodes"]] == [peer_id(other)]
    # Plugged in again it rests five minutes, then works.
    board.own = BATTERY
    phone.clock.monotonic_offset_s += 301

    async def refusals() -> list[Any]:
        _, found = await call(gateway, "GET", "/nodes")
        return [node["refuses"] for node in found["nodes"]]

    await until(refusals, lambda found: found == [None, None])


@pytest.mark.slow
async def test_a_phone_that_is_unplugged_finishes_what_runs_and_gives_the_rest_back(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway(extra="sla: {platform: fixed, deadline: 120}\n")
    phone, job_id, _ = await spinning(swarm, gateway, modules["spin"], "slots: 1", 20_000, 5)
    board = phone.hub.services[TELEMETRY]
    board.own = Telemetry(battery_percent=95.0, charging=False)

    found = await until(
        lambda: attempts(gateway, job_id),
        lambda found: {state for state, _ in found} == {"rejected", "finished"},
    )
    assert {reason for state, reason in found if state == "rejected"} == {"not charging"}


@pytest.mark.slow
async def test_a_phone_that_stays_unplugged_gives_back_even_what_runs(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power_policy, "_CHECK_EVERY_S", 0.1)
    gateway = await swarm.gateway(extra="sla: {platform: fixed, deadline: 120}\n")
    phone, job_id, begun = await spinning(
        swarm, gateway, modules["spin"], "slots: 1, finish_within: 600", 40_000, 40_000
    )
    board = phone.hub.services[TELEMETRY]
    board.own = Telemetry(has_battery=True, battery_percent=95.0, charging=False)
    await until(lambda: the_node(gateway), lambda node: node["refuses"] is not None)
    assert await begun()
    phone.clock.monotonic_offset_s += 600
    await until(begun, lambda found: not found)

    await until(
        lambda: attempts(gateway, job_id),
        lambda found: found == [("rejected", "not charging")],
    )
    # Plugged in again, and rested, it works.
    board.own = BATTERY
    phone.clock.monotonic_offset_s += 301
    await until(begun, bool)
    await call(gateway, "DELETE", f"/jobs/{job_id}")


@pytest.mark.slow
async def test_a_phone_that_goes_slower_on_battery_gives_back_what_is_too_much(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power_policy, "_CHECK_EVERY_S", 0.1)
    gateway = await swarm.gateway(extra="sla: {platform: fixed, deadline: 120}\n")
    phone = await swarm.worker(
        "phone",
        extra="worker: {battery_unknown: run, slots: 3, on_battery: {slots: 1, min_battery: 60}}\n",
    )
    board = phone.hub.services[TELEMETRY]
    await board.own_known.wait()
    board.own = BATTERY
    spec = {"abi": "range", "split": "range", "reduce": "sum", "shard_size": 200}
    _, body = await submit(gateway, modules["spin"], b"0:30000", spec)
    sandbox = phone.hub.services[SANDBOX].sandbox

    async def running() -> int:
        return len(sandbox.begun())

    await until(running, lambda count: count == 3)
    board.own = Telemetry(has_battery=True, battery_percent=80.0, charging=False)
    node = await until(lambda: the_node(gateway), lambda node: node["slots"] == 1)
    assert node["telemetry"]["slots"] == 1
    assert node["telemetry"]["slower"] == "not charging, battery below 90 %"
    assert node["refuses"] is None
    await until(running, lambda count: count == 1)
    status = await asyncio.to_thread(client.ask, phone.folder, "status")
    assert (status["worker"]["slots"], status["worker"]["slower"]) == (
        1, "not charging, battery below 90 %",
    )  # fmt: skip
    # It goes on with one at a time, and with less charge it stops.
    board.own = Telemetry(has_battery=True, battery_percent=59.0, charging=False)
    node = await until(lambda: the_node(gateway), lambda node: node["refuses"] is not None)
    assert node["refuses"] == "not charging, battery below 60 %"
    board.own = BATTERY
    phone.clock.monotonic_offset_s += 301
    # One comes with the telemetry, the other in a message of its own.
    node = await until(
        lambda: the_node(gateway), lambda node: node["slots"] == 3 and node["refuses"] is None
    )
    assert node["telemetry"]["slower"] is None
    await until(running, lambda count: count == 3)
    await call(gateway, "DELETE", f"/jobs/{body['job_id']}")


@pytest.mark.slow
async def test_a_computer_that_somebody_uses_takes_no_work(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle_s: list[float | None] = [None]
    monkeypatch.setattr(OwnersUse, "idle_s", lambda *_times: idle_s[0])
    monkeypatch.setattr(power_policy, "is_android", lambda: False)
    monkeypatch.setattr(power_policy, "_CHECK_EVERY_S", 0.1)
    gateway = await swarm.gateway()
    await swarm.worker("desktop", extra="worker: {battery_unknown: run, idle_for: 3m}\n")
    await until(lambda: the_node(gateway), lambda node: node["state"] == "up")
    idle_s[0] = 5.0
    in_use = "in use: nobody may touch it for 3 min"
    await until(lambda: the_node(gateway), lambda node: node["refuses"] == in_use)
    idle_s[0] = 180.0
    await until(lambda: the_node(gateway), lambda node: node["refuses"] is None)


async def test_a_phone_waits_for_its_battery_s_first_word_and_does_not_rest_from_that(
    swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power_policy, "_CHECK_EVERY_S", 0.1)
    fake = first_on_path(tmp_path / "programs", monkeypatch)
    word = tmp_path / "word"
    os.mkfifo(word)
    fake.add("termux-battery-status", f"cat {word}")
    gateway = await swarm.gateway()
    await swarm.worker("phone", extra="worker: {charging_only: true}\n")
    node = await until(lambda: the_node(gateway), lambda node: node["refuses"] is not None)
    assert node["refuses"] == "it has not measured its device yet"
    said = '{"percentage": 97, "plugged": "PLUGGED_AC", "temperature": 30}'
    await asyncio.to_thread(word.write_text, said)
    await until(lambda: the_node(gateway), lambda node: node["refuses"] is None)


async def test_what_the_device_measures_counts_at_once(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power_policy, "_CHECK_EVERY_S", 3600.0)
    plugged = [True]
    monkeypatch.setattr(Probe, "measure", lambda _probe: replace(BATTERY, charging=plugged[0]))
    gateway = await swarm.gateway()
    await swarm.worker("phone", extra="worker: {charging_only: true}\ntelemetry: {interval: 0.2}\n")
    await until(lambda: the_node(gateway), lambda node: node["state"] == "up")
    plugged[0] = False
    await until(lambda: the_node(gateway), lambda node: node["refuses"] == "not charging")


@pytest.mark.slow
async def test_a_refusing_worker_tells_a_gateway_that_comes_later(swarm: Swarm) -> None:
    phone = await swarm.worker("phone", extra="worker: {charging_only: true}\n")
    board = phone.hub.services[TELEMETRY]
    await board.own_known.wait()
    board.own = Telemetry(battery_percent=95.0, charging=False)
    gateway = await swarm.gateway()
    node = await until(lambda: the_node(gateway), lambda node: node["refuses"] is not None)
    assert (node["state"], node["refuses"]) == ("up", "not charging")


async def test_delivered_work_leaves_nothing_on_the_worker(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    worker = await swarm.worker("worker")
    _, body = await submit(gateway, modules["primes"], b"0:1000", {"shard_size": 10})
    assert (await finished(gateway, body["job_id"]))["result"] == 168

    async def left() -> int:
        with closing(sqlite3.connect(worker.folder / "swarm_hub.db")) as database:
            tables = ("inbox", "outbox")
            return sum(
                database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables
            )

    await until(left, lambda count: count == 0)


async def test_accepted_work_survives_a_restart_of_the_worker(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    worker = await swarm.worker("worker")
    _, body = await submit(gateway, modules["spin"], b"0:1200", {"shard_size": 100})

    async def done() -> int:
        _, status = await call(gateway, "GET", f"/jobs/{body['job_id']}")
        return int(status["progress"]["shards_done"])

    await until(done, lambda shards: shards >= 1)
    await swarm.stop(worker)
    await swarm.worker("worker")
    status = await finished(gateway, body["job_id"])
    assert (status["state"], status["result"]) == ("completed", 1200)


async def test_a_worker_that_stops_logs_no_error(
    swarm: Swarm, modules: Modules, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await swarm.gateway()
    worker = await swarm.worker("worker")
    _, body = await submit(gateway, modules["spin"], b"0:100000", {"shard_size": 20_000})

    async def state() -> str:
        return str((await call(gateway, "GET", f"/jobs/{body['job_id']}"))[1]["state"])

    await until(state, lambda now: now == "running")
    await swarm.stop(worker)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_fault_of_the_worker_gives_the_shard_back_with_its_text(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    gateway = await swarm.gateway()
    worker = await swarm.worker("worker")
    sandbox = worker.hub.services[SANDBOX].sandbox
    run, faults = sandbox.run, 0

    async def faulty(*args: Any, **kwargs: Any) -> CallResult:
        nonlocal faults
        faults += 1
        if faults == 1:
            raise TypeError("no such argument")
        return await run(*args, **kwargs)

    monkeypatch.setattr(sandbox, "run", faulty)
    _, body = await submit(gateway, modules["primes"], b"0:100")
    status = await finished(gateway, body["job_id"])
    assert (status["state"], status["result"]) == ("completed", 25)
    _, story = await call(gateway, "GET", f"/jobs/{body['job_id']}/story")
    returned = [str(each["data"]) for each in story["events"]
                if each["event_type"] == "shard_returned"]  # fmt: skip
    assert len(returned) == 1
    assert "this worker has a fault: TypeError" in returned[0]
    assert any("could not be run" in each.message and each.exc_info for each in caplog.records)


async def test_a_job_goes_to_no_worker_that_gives_it_less_time_than_it_asks_for(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker", extra="sandbox: {wall_time: 0.2}\n")
    _, body = await submit(gateway, modules["primes"], b"0:100", {"limits": {"wall_time": 60}})

    async def status() -> dict[str, Any]:
        return (await call(gateway, "GET", f"/jobs/{body['job_id']}"))[1]

    found = await until(status, lambda told: "1 node" in (told["waits"] or ""))
    assert found["waits"] == "1 node: 1 lets no shard run for 60 s (sandbox: wall_time)"
    assert found["state"] == "queued"
