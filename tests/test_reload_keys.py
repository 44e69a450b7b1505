"""Every key that says it is reloadable acts on the running hub once it was reloaded.

Each is looked at before and after. `acts` names the keys that a test is about; the last test holds
them against those of the schemas, so that a new one needs its test here.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import psutil
import pytest

from swarm_hub import config
from swarm_hub.client import SwarmClient
from swarm_hub.components import worker
from swarm_hub.components.mesh import MESH
from swarm_hub.components.sandbox import SANDBOX
from swarm_hub.components.signer import envelope_channel
from swarm_hub.components.sla import SLA
from swarm_hub.components.telemetry import TELEMETRY, DeviceMeasured
from swarm_hub.components.telemetry.probe import Probe
from swarm_hub.components.worker.hours import DAYS
from swarm_hub.loader import ComponentIndex
from swarm_hub.models.envelope import seal
from swarm_hub.models.node import Telemetry
from swarm_hub.util import process_log
from swarm_hub.util.owners_use import OwnersUse
from swarm_hub.util.process_log import ProcessLog
from tests.conftest import Swarm, until
from tests.helpers.programs import first_on_path
from tests.helpers.reloading import Reloading, port_of
from tests.helpers.rest import finished, submit
from tests.helpers.sections import component, has_platforms, platforms
from tests.helpers.wasm_bytes import giant_function

pytestmark = pytest.mark.process

_T = TypeVar("_T")
Modules = dict[str, bytes]
ACT: set[str] = set()
SUM: Final = {"split": "range", "reduce": "sum"}
LOOPBACK: Final = {"transport": "loopback"}


def acts(section: str, *keys: str) -> Callable[[_T], _T]:
    """Name the keys that a test reloads and sees to act."""
    ACT.update(f"{section}: {key}" for key in keys)
    return lambda test: test


@pytest.fixture
async def gateway(swarm: Swarm) -> Reloading:
    """Return a gateway that no node works for."""
    running = await swarm.gateway()
    base = {"gateway": {"admission": "open"}, "api": {"port": port_of(running)}, "mesh": LOOPBACK}
    return Reloading(running, base)


@pytest.fixture
async def both(swarm: Swarm) -> Reloading:
    """Return a gateway that is its own worker."""
    made = "worker: {charging_only: false, min_battery: 0, slots: 2}\n"
    running = await swarm.gateway("both", extra=made)
    worker = {"charging_only": False, "min_battery": 0, "slots": 2}
    base = {
        "gateway": {"admission": "open"},
        "worker": worker,
        "api": {"port": port_of(running)},
        "mesh": LOOPBACK,
    }
    reloading = Reloading(running, base)
    await until(lambda: slots(reloading), lambda n: n == 2)
    return reloading


async def slots(hub: Reloading) -> int:
    """Return how many shards its nodes run at once."""
    return int((await hub.call("GET", "/health"))[1]["slots"])


async def refuses(hub: Reloading) -> str | None:
    """Return why its worker takes no work."""
    told = await hub.hub.control.run({"command": "status"})
    found: str | None = told["worker"]["refuses"]
    return found


async def ended(hub: Reloading, module: bytes, data: bytes, **spec: Any) -> dict[str, Any]:
    """Run a job and return its last status."""
    status, told = await submit(hub.running, module, data, spec)
    assert status == 202, told
    return await finished(hub.running, told["job_id"])


async def posted(hub: Reloading, module: bytes, data: bytes = b"0:10", **spec: Any) -> int:
    return (await submit(hub.running, module, data, {**SUM, **spec}))[0]


# The API


OTHER_NAME: Final = {"Host": "swarm.example"}
OTHER_PAGE: Final = {"Origin": "https://page.example"}
REQUESTS: Final[tuple[tuple[str, Any, dict[str, str], int, int], ...]] = (
    ("request", 10, {}, 422, 413),
    ("requests_per_owner", 1, {}, 422, 429),
    ("upload_per_owner", 1, {}, 422, 429),
    ("allowed_hosts", ["swarm.example"], OTHER_NAME, 403, 422),
    ("cors_allowed_origins", ["https://page.example"], OTHER_PAGE, 403, 422),
)


@acts("api", *(key for key, *_ in REQUESTS))
async def test_what_the_api_takes(gateway: Reloading) -> None:
    for key, value, headers, before, after in REQUESTS:

        async def answer(headers: dict[str, str] = headers) -> int:
            body = {"wasm_base64": "AAAA", "dataset": [1]}
            for _ in range(3):
                status, _ = await gateway.call("POST", "/jobs", json=body, headers=headers)
            return status

        assert await answer() == before, key
        await gateway.takes("api", **{key: value})
        assert await answer() == after, key
        await gateway.reload()
        assert await answer() == before, key


@acts("api", "public_url")
async def test_where_clients_are_told_to_find_the_api(gateway: Reloading) -> None:
    async def told() -> list[str]:
        _, body = await gateway.call("GET", "/gateways")
        return [url for each in body["gateways"] for url in each["urls"]]

    before = await told()
    await gateway.takes("api", public_url="https://swarm.example.org")
    assert await told() == ["https://swarm.example.org"] != before
    await gateway.reload()
    assert await told() == before


@acts("api", "connections", "connections_per_ip")
@pytest.mark.parametrize(("key", "value"), [("connections", 8), ("connections_per_ip", 8)])
async def test_how_many_connections_the_api_takes(gateway: Reloading, key: str, value: int) -> None:
    async def answered() -> int:
        streams = [
            await asyncio.open_connection("127.0.0.1", port_of(gateway.running)) for _ in range(12)
        ]

        async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
            with contextlib.suppress(ConnectionError):
                writer.write(b"GET /api/v1/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
                return (await reader.read(15)).startswith(b"HTTP/1.1 200")
            return False

        answers = [await ask(*each) for each in streams]
        for _, writer in streams:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        return sum(answers)

    assert await answered() == 12
    await gateway.takes("api", **{key: value})
    assert await until(answered, lambda n: n <= value) > 0


@acts("api", "login_attempts", "ip_ban", "use_x_forwarded_for", "trusted_proxies")
async def test_whom_the_api_bans(gateway: Reloading) -> None:
    n_asked = 0

    async def banned_after(n_times: int, **keys: Any) -> bool:
        nonlocal n_asked
        n_asked += 1
        await gateway.reload(api={"trusted_proxies": ["127.0.0.1"], **keys})
        headers = {"X-Forwarded-For": f"192.0.2.{n_asked}"}
        for _ in range(n_times):
            await gateway.call("GET", "/health", token="wrong", headers=headers)
        return (await gateway.call("GET", "/health", headers=headers))[0] == 403

    assert not await banned_after(1)
    assert await banned_after(1, login_attempts=1)
    assert not await banned_after(1, login_attempts=2)
    assert not await banned_after(1, login_attempts=1, ip_ban=False)
    assert not await banned_after(1, login_attempts=1, use_x_forwarded_for=False)
    assert not await banned_after(1, login_attempts=1, trusted_proxies=[])


# The gateway


@acts("gateway", "redundancy", "wall_time", "dataset", "jobs", "jobs_per_owner")
async def test_which_jobs_the_gateway_takes(gateway: Reloading, modules: Modules) -> None:
    async def spec() -> dict[str, Any]:
        _, told = await submit(gateway.running, modules["count"], b"0:10", SUM)
        return dict((await gateway.call("GET", f"/jobs/{told['job_id']}"))[1]["spec"])

    before = await spec()
    assert (before["redundancy"], before["limits"]["wall_time"]) == (1, 60)
    await gateway.takes("gateway", redundancy=2, wall_time=7)
    after = await spec()
    assert (after["redundancy"], after["limits"]["wall_time"]) == (2, 7)
    assert await posted(gateway, modules["count"]) == 202
    await gateway.takes("gateway", dataset=2)
    assert await posted(gateway, modules["count"]) == 413
    await gateway.takes("gateway", jobs=1)
    assert await posted(gateway, modules["count"]) == 429
    await gateway.takes("gateway", jobs_per_owner=1)
    assert await posted(gateway, modules["count"]) == 429
    await gateway.reload()
    assert await posted(gateway, modules["count"]) == 202


@acts("gateway", "uploads", "keep_uploads")
async def test_what_may_be_uploaded(gateway: Reloading) -> None:
    async def put(body: bytes) -> tuple[int, Any]:
        sha = hashlib.sha256(body).hexdigest()
        headers = {"Content-Type": "application/octet-stream"}
        return await gateway.call("PUT", f"/blobs/{sha}", data=body, headers=headers)

    _, told = await put(b"first")
    a_day = told["expires_at"]
    await gateway.takes("gateway", keep_uploads="2h")
    _, told = await put(b"second")
    assert told["expires_at"] < a_day
    await gateway.takes("gateway", uploads=100)
    assert (await put(bytes(200)))[0] == 413


@acts("gateway", "receipts")
async def test_whose_receipts_are_kept(both: Reloading, modules: Modules) -> None:
    async def kept() -> int:
        status = await ended(both, modules["count"], b"0:10", **SUM)
        _, told = await both.call("GET", f"/jobs/{status['job_id']}/receipts")
        return len(told["receipts"])

    assert await kept() == 0
    await both.takes("gateway", receipts="all")
    assert await kept() == 1


@acts("gateway", "admission")
async def test_whom_the_gateway_admits(swarm: Swarm, gateway: Reloading) -> None:
    async def states() -> dict[str, str]:
        _, told = await gateway.call("GET", "/nodes")
        return {each["name"]: each["state"] for each in told["nodes"]}

    await swarm.worker("early")
    await until(states, lambda found: found.get("early") == "up")
    await gateway.takes("gateway", admission="manual")
    await swarm.worker("late")
    found = await until(states, lambda found: "late" in found)
    assert found == {"early": "up", "late": "pending"}


KEPT: Final[tuple[dict[str, Any], ...]] = (
    {"keep": 0},
    {"rows": 1},
    {"disk": "1MiB"},
    {"platform": "ttl", "completed_after": 0, "unread_after": 0},
    {"platform": "keep_last", "jobs": 1},
)


@pytest.mark.slow
@acts("gc", *{key for keys in KEPT for key in keys})
async def test_how_long_finished_jobs_are_kept(both: Reloading, modules: Modules) -> None:
    collector: Any = both.hub.reloaders["gc"]

    async def left() -> int:
        # Jobs are settled for a while before anything is chosen by what they take.
        both.running.clock.offset_s += 600
        both.running.clock.monotonic_offset_s += 600
        await collector.collect()
        return len((await both.call("GET", "/jobs"))[1]["jobs"])

    for number, keys in enumerate(KEPT):
        data = bytes(900_000) if "disk" in keys else b"a"
        for each in range(3):
            line = data + bytes([32 + 3 * number + each])
            await ended(both, modules["cat"], line, split="lines", reduce="concat")
        before = await left()
        assert before >= 3
        await both.takes("gc", **keys)
        assert await left() < before, keys
        await both.reload()


@acts("scheduler", "platform", "unproven_share")
async def test_how_shards_are_cut_and_shared_out(both: Reloading, modules: Modules) -> None:
    from swarm_hub.components.gateway import JOBS
    from swarm_hub.components.scheduler import STRATEGY, UNPROVEN

    async def sizes() -> set[int]:
        status = await ended(both, modules["count"], b"0:100000", **SUM)
        async with SwarmClient(both.running.url, both.running.token) as client:
            return {each.n_items for each in await client.shards(status["job_id"])}

    await sizes()
    adaptive = await sizes()
    await both.takes("scheduler", platform="round_robin")
    assert await sizes() != adaptive
    await both.takes("scheduler", unproven_share=0.9)
    assert both.hub.services[UNPROVEN] == 0.9
    machine: Any = both.hub.services[JOBS]._machine
    assert machine._planner._unproven_share == 0.9
    assert machine._planner._strategy is both.hub.services[STRATEGY]


@acts("sla", "platform", "deadline", "factor", "initial")
async def test_when_a_shard_is_given_to_another_node(gateway: Reloading) -> None:
    from swarm_hub.components.gateway import JOBS

    def deadlines() -> tuple[float, float]:
        machine: Any = gateway.hub.services[JOBS]._machine
        rule = machine._book._deadline_s
        assert rule is gateway.hub.services[SLA]
        return rule(None, 1), rule(100.0, 1)

    before = deadlines()
    await gateway.takes("sla", initial=99)
    assert deadlines()[0] == 99 != before[0]
    await gateway.takes("sla", factor=7)
    assert deadlines()[1] == 700 != before[1]
    await gateway.takes("sla", platform="fixed")
    await gateway.reload(sla={"platform": "fixed", "deadline": 5})
    assert deadlines() == (5, 5)


# What keeps hubs together


@acts("mesh", "bootnodes")
async def test_whom_a_hub_dials(swarm: Swarm, gateway: Reloading) -> None:
    running = await swarm.start("lonely", "worker: {charging_only: false}\n")
    lonely = Reloading(running, {"worker": {"charging_only": False}, "mesh": LOOPBACK})
    peer_id, _ = swarm.keys("gateway")
    mesh = running.hub.services[MESH]

    async def connected() -> bool:
        return peer_id in mesh.peers()

    assert not await connected()
    await lonely.takes("mesh", bootnodes=[f"/memory/0/p2p/{peer_id}"])
    await until(connected, bool)
    await lonely.takes("mesh", bootnodes=[])
    await mesh.disconnect(peer_id, "a test")
    await until(connected, lambda there: not there)
    assert not mesh._redialler._addresses
    # Named again it is dialled again.
    await lonely.takes("mesh", bootnodes=[f"/memory/0/p2p/{peer_id}"])
    await until(connected, bool)


@pytest.mark.slow
@acts("signer", "trust", "ttl")
async def test_whom_a_worker_obeys_and_how_long_envelopes_count(
    swarm: Swarm, gateway: Reloading, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    ttls: set[int] = set()

    def noting(*arguments: Any, **keys: Any) -> Any:
        ttls.add(keys["ttl_s"])
        return seal(*arguments, **keys)

    monkeypatch.setattr(envelope_channel, "seal", noting)
    peer_id, public_key = swarm.keys("gateway")
    sections = {
        "worker": {"charging_only": False, "min_battery": 0},
        "mesh": {**LOOPBACK, "bootnodes": [f"/memory/0/p2p/{peer_id}"]},
    }
    lines = (f"{name}: {json.dumps(keys)}\n" for name, keys in sections.items())
    phone = Reloading(await swarm.start("phone", "".join(lines)), sections)
    await until(lambda: slots(gateway), bool)
    _, told = await submit(gateway.running, modules["count"], b"0:10", SUM)
    await phone.takes("signer", trust=[public_key], ttl=77)
    assert (await finished(gateway.running, told["job_id"]))["state"] == "completed"
    assert ttls == {60, 77}
    await phone.takes("signer", trust=[])
    _, told = await submit(gateway.running, modules["count"], b"0:11", SUM)
    _, status = await gateway.call("GET", f"/jobs/{told['job_id']}?wait=1")
    assert status["state"] != "completed"


@acts("content", "max")
async def test_how_large_a_blob_is_fetched(swarm: Swarm, monkeypatch: pytest.MonkeyPatch) -> None:
    from swarm_hub.components import content
    from swarm_hub.components.content.search import Search, _sound

    made: list[Any] = []

    class Noted(Search):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(content, "Search", Noted)
    running = await swarm.start("seeker", "worker: {charging_only: false}\ncontent:\n")
    seeker = Reloading(
        running, {"worker": {"charging_only": False}, "content": {}, "mesh": LOOPBACK}
    )
    await seeker.takes("content", max=5)
    problems: list[str] = []
    assert [*_sound([("peer", 4), ("peer", 6)], made[0]._max_bytes, problems)] == [("peer", 4)]


# The device


@acts("telemetry", "interval")
async def test_how_often_a_device_is_measured(both: Reloading) -> None:
    measured = asyncio.Event()
    both.hub.bus.listen(DeviceMeasured, lambda _event: measured.set())
    await both.takes("telemetry", interval=0.05)
    for _ in range(2):
        measured.clear()
        await asyncio.wait_for(measured.wait(), 5)


# One minute of the day after the next.
NOT_NOW: Final = {DAYS[(time.localtime().tm_wday + 2) % 7]: "12:00-12:01"}
PHONE: Final = Telemetry(
    cpu_percent=1.0, load_1m=50.0, has_battery=True, battery_percent=80.0, charging=True,
    temperature_c=30.0, power_source="usb",
)  # fmt: skip


SPARED: Final[tuple[tuple[Telemetry, dict[str, Any], str], ...]] = (
    (replace(PHONE, charging=False), {"charging_only": True}, "not charging"),
    (PHONE, {"charging_only": True, "plug": ["ac"]}, "charging by usb, which"),
    (PHONE, {"min_battery": 90}, "battery below 90 %"),
    (
        replace(PHONE, charging=False),
        {"on_battery": {"slots": 1, "min_battery": 85}},
        "battery below 85 %",
    ),
    (
        replace(PHONE, battery_percent=None),
        {"min_battery": 5, "battery_unknown": "stop"},
        "the battery can't be read",
    ),
    (PHONE, {"max_temperature": 25}, "warmer than 25"),
    (PHONE, {"networks": "unmetered", "metered": True}, "the network is metered"),
    (PHONE, {"hours": NOT_NOW}, "outside its hours"),
    (PHONE, {"pause_above_load": 0.5}, "others load it above 0.5"),
    (PHONE, {"idle_for": "1h"}, "in use"),
)


@acts("worker", *{key for _, keys, _ in SPARED for key in keys})
async def test_when_a_device_is_spared(both: Reloading, monkeypatch: pytest.MonkeyPatch) -> None:
    device = PHONE
    monkeypatch.setattr(Probe, "measure", lambda _probe: device)
    monkeypatch.setattr(OwnersUse, "idle_s", lambda *_arguments: 1.0)
    often, unread = {"interval": 0.05}, {"battery_unknown": "run"}
    await both.reload(telemetry=often, worker=unread)
    for each, keys, reason in SPARED:
        device = each
        await until(lambda: own(both), lambda found, device=each: is_like(found, device))
        assert await refuses(both) is None
        await both.reload(telemetry=often, worker={**unread, **keys})
        await until(lambda: refuses(both), lambda why, reason=reason: reason in (why or ""))
        await both.reload(telemetry=often, worker=unread)
        await until(lambda: refuses(both), lambda why: why is None)


async def own(hub: Reloading) -> Telemetry:
    return hub.hub.services[TELEMETRY].own


def is_like(found: Telemetry, device: Telemetry) -> bool:
    return (found.battery_percent, found.charging) == (device.battery_percent, device.charging)


@acts("worker", "resume_battery")
async def test_where_a_device_begins_again(
    both: Reloading, monkeypatch: pytest.MonkeyPatch
) -> None:
    percent = [80.0]
    monkeypatch.setattr(Probe, "measure", lambda _probe: replace(PHONE, battery_percent=percent[0]))
    often = {"telemetry": {"interval": 0.05}}
    await both.reload(**often, worker={"min_battery": 85, "resume_battery": 99})
    await until(lambda: refuses(both), lambda why: why == "battery below 85 %")
    percent[0] = 90.0
    await until(lambda: refuses(both), lambda why: why == "battery not at 99 % again yet")


@acts("worker", "daily_data")
async def test_how_much_a_device_may_move_in_a_day(
    both: Reloading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        type(both.hub.services[MESH]), "moved_bytes", property(lambda _mesh: next(moved))
    )
    moved = iter(range(0, 10**12, 6_000_000))
    assert await refuses(both) is None
    await both.takes("worker", daily_data="10MB")
    for _ in range(3):
        # The device is measured, and looks at what was moved.
        both.hub.bus.fire(DeviceMeasured())
    await until(lambda: refuses(both), lambda why: why == "it has used its 10 MB of today")


@acts("worker", "slots", "memory_share", "on_battery: slots")
async def test_how_much_runs_at_once(both: Reloading, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "total_memory_bytes", lambda: 2**30)
    await both.takes("worker", slots=3)
    await until(lambda: slots(both), lambda n: n == 3)
    # 128 MiB each.
    await both.takes("worker", slots=8, memory_share=60)
    await until(lambda: slots(both), lambda n: n == 4)
    await both.takes("worker", slots=1)
    await until(lambda: slots(both), lambda n: n == 1)


async def test_more_slots_are_used_by_a_gateway_that_was_told_of_fewer(
    both: Reloading, modules: Modules
) -> None:
    await both.takes("worker", slots=4)
    await until(lambda: slots(both), lambda n: n == 4)
    _, told = await submit(both.running, modules["spin"], b"0:100000", {**SUM, "shard_size": 1000})

    async def running() -> int:
        return len((await both.hub.control.run({"command": "status"}))["worker"]["running"])

    await until(running, lambda n: n == 4)
    await both.call("DELETE", f"/jobs/{told['job_id']}")


@acts("worker", "cpu_share")
async def test_which_share_of_the_cpu_it_takes(both: Reloading, modules: Modules) -> None:
    _, told = await submit(both.running, modules["spin"], b"0:1000000", SUM)
    sandbox = both.hub.services[SANDBOX].sandbox

    async def stopped() -> int:
        found = 0
        for pid in sandbox.stats().pids:
            with contextlib.suppress(psutil.Error):
                found += psutil.Process(pid).status() == psutil.STATUS_STOPPED
        return found

    await until(lambda: running_shards(both), bool)
    await both.takes("worker", cpu_share=5)
    await until(stopped, bool)
    await both.reload()
    await until(stopped, lambda n: n == 0)
    await both.call("DELETE", f"/jobs/{told['job_id']}")


async def running_shards(hub: Reloading) -> int:
    return len((await hub.hub.control.run({"command": "status"}))["worker"]["running"])


@acts("worker", "finish_within")
async def test_how_long_what_runs_may_finish(
    both: Reloading, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Probe, "measure", lambda _probe: PHONE)
    _, told = await submit(
        both.running, modules["spin"], b"0:1000000", {**SUM, "shard_size": 20_000}
    )
    await until(lambda: running_shards(both), bool)
    often = {"telemetry": {"interval": 0.05}}
    await both.reload(**often, worker={"hours": NOT_NOW, "finish_within": 3600})
    await until(lambda: refuses(both), bool)
    assert await running_shards(both)
    await both.reload(**often, worker={"hours": NOT_NOW, "finish_within": 0})
    # What has begun to be spared ends by the time that it was given then.
    await both.reload(**often)
    await until(lambda: refuses(both), lambda why: why is None)
    await until(lambda: running_shards(both), bool)
    await both.reload(**often, worker={"hours": NOT_NOW, "finish_within": 0})
    await until(lambda: running_shards(both), lambda n: n == 0)
    await both.call("DELETE", f"/jobs/{told['job_id']}")


@acts("worker", "notification")
async def test_whether_a_phone_shows_a_notification(
    both: Reloading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = first_on_path(tmp_path / "programs", monkeypatch)
    programs.add("termux-notification")
    programs.add("termux-notification-remove")

    async def calls() -> list[str]:
        return [each.split()[0] for each in programs.calls()]

    # It began without the program, so there is nothing to take away yet.
    await both.takes("worker", notification=False)
    assert await calls() == []
    await both.takes("worker", notification=True)
    await until(calls, lambda found: found == ["termux-notification"])
    await both.takes("worker", notification=False)
    await until(calls, lambda found: found[-1] == "termux-notification-remove")


# The sandbox


@acts("sandbox", "output", "module")
async def test_what_a_shard_may_say_and_how_large_a_module_is(
    both: Reloading, modules: Modules
) -> None:
    async def state(data: bytes) -> str:
        spec = {"split": "lines", "reduce": "concat"}
        return str((await ended(both, modules["cat"], data, **spec))["state"])

    assert await state(b"x" * 500) == "completed"
    await both.takes("sandbox", output=100)
    assert await state(b"y" * 500) == "failed"
    await both.takes("sandbox", module=20)
    assert await posted(both, modules["count"]) == 413


@acts("sandbox", "compile_time", "compile_memory")
@pytest.mark.parametrize(
    "keys", [{"compile_time": 0.001}, {"compile_memory": "16MiB"}], ids=["time", "memory"]
)
async def test_what_a_compilation_may_take(
    gateway: Reloading, modules: Modules, keys: dict[str, Any]
) -> None:
    bodies = {**modules, "large": giant_function(300_000)}

    async def inspected(name: str) -> int:
        headers = {"Content-Type": "application/wasm"}
        status, told = await gateway.call(
            "POST", "/modules/inspect", data=bodies[name], headers=headers
        )
        return 422 if status == 200 and told.get("refused") else status

    assert await inspected("primes") == 200
    await gateway.takes("sandbox", **keys)
    assert await inspected("large") == 422
    await gateway.reload()
    assert await inspected("echo") == 200


@acts("sandbox", "cache")
async def test_how_much_compiled_code_is_kept(both: Reloading, modules: Modules) -> None:
    sandbox = both.hub.services[SANDBOX].sandbox

    async def kept() -> int:
        return sandbox.stats().cache_bytes

    await both.takes("sandbox", cache=1)
    await ended(both, modules["wordcount"], b"a b", reduce="json", split="lines")
    assert await kept() == 0
    await both.reload()
    await ended(both, modules["primes"], b"0:10", **SUM)
    await until(kept, bool)


@acts("sandbox", "reuse")
async def test_whose_shards_share_a_child(both: Reloading, modules: Modules) -> None:
    sandbox = both.hub.services[SANDBOX].sandbox

    async def children() -> set[int]:
        await ended(both, modules["count"], b"0:4", **SUM, shard_size=1)
        return set(sandbox.stats().pids)

    await children()
    assert await children() == await children()
    await both.takes("sandbox", reuse="never")
    assert await children() != await children()


# The store


@acts("storage", "min_free")
async def test_how_much_of_the_disk_is_left_free(gateway: Reloading) -> None:
    async def full() -> str | None:
        found: str | None = (await gateway.call("GET", "/health"))[1]["disk_full"]
        return found

    assert await full() is None
    await gateway.takes("storage", min_free="1048576GiB")
    await until(full, bool)
    await gateway.reload()
    await until(full, lambda why: why is None)


@pytest.mark.slow
@acts("storage", "backup", "every", "keep", "directory")
async def test_where_and_how_often_backups_are_made(gateway: Reloading) -> None:
    def made(directory: str) -> set[str]:
        return {path.name for path in (gateway.running.folder / directory).glob("[!.]*")}

    async def in_first() -> set[str]:
        return made("first")

    async def in_second() -> set[str]:
        return made("second")

    await gateway.reload(storage={"backup": {"every": 0.2, "directory": "first", "keep": 1}})
    first = await until(in_first, bool)
    gateway.running.clock.offset_s += 1
    await until(in_first, lambda names: names and not names & first)
    assert len(made("first")) == 1
    await gateway.reload(storage={"backup": {"every": 0.2, "directory": "second", "keep": 3}})
    await until(in_second, bool)
    gateway.running.clock.offset_s += 1
    await until(in_second, lambda names: len(names) == 2)
    await gateway.reload(storage={"backup": {"every": "24h", "directory": "second", "keep": 3}})
    await gateway.reload()
    assert not gateway.hub.needs_restart


@acts("logger", "default", "logs", "json", "file", "max_size", "keep")
async def test_where_and_from_which_level_on_it_logs(swarm: Swarm, own_log: ProcessLog) -> None:
    running = await swarm.start("quiet", "worker: {charging_only: false}\n")
    hub = Reloading(running, {"worker": {"charging_only": False}, "mesh": LOOPBACK})
    logger = logging.getLogger("swarm_hub.components.mesh")

    def lines(file: str = "hub.log") -> list[str]:
        path = running.folder / file
        return path.read_text().splitlines() if path.exists() else []

    await hub.takes("logger", file="hub.log")
    logger.info("one")
    logger.debug("two")
    await hub.reload(logger={"default": "warning", "file": "hub.log"})
    logger.info("three")
    await hub.reload(logger={"default": "warning", "file": "hub.log", "logs": {"mesh": "debug"}})
    logger.debug("four")
    said = [line.rpartition(" ")[2] for line in lines()]
    assert [word for word in said if word in {"one", "two", "three", "four"}] == ["one", "four"]
    await hub.takes("logger", file="json.log", json=True)
    logger.warning("five")
    assert json.loads(lines("json.log")[-1])["message"] == "five"
    for keep in (1, 2):
        file = f"small-{keep}.log"
        await hub.reload(logger={"file": file, "max_size": "64KiB", "keep": keep})
        for _ in range(8):
            logger.warning("x" * 40_000)
        assert len([*running.folder.glob(f"{file}*")]) == 1 + keep


@pytest.fixture
def own_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessLog]:
    """Return the log of a process that a hub has for itself, which this one gets for a test."""
    root, ours = logging.getLogger(), [*map(logging.getLogger, ("swarm_hub", "custom_components"))]
    handlers, levels = [*root.handlers], [each.level for each in ours]
    made = ProcessLog()
    monkeypatch.setattr(process_log, "_process_log", made)
    yield made
    for handler in [*root.handlers]:
        if handler not in handlers:
            root.removeHandler(handler)
            handler.close()
    for logger, level in zip(ours, levels, strict=True):
        logger.setLevel(level)


def reloadable() -> Iterator[str]:
    """Yield every key that says so, as `acts` names it."""
    schemas: list[tuple[str, Any]] = []
    for domain in ComponentIndex(Path("nowhere")).domains():
        if has_platforms(domain):
            schemas.append((domain, component(domain).CONFIG_SCHEMA.keys_for({})))
            schemas += [(domain, each.PLATFORM_SCHEMA) for each in platforms(domain).values()]
        else:
            schemas.append((domain, component(domain).CONFIG_SCHEMA.schema.schema))
    core = {**config.CORE_SCHEMAS, "backup": config._BACKUP_SCHEMA}
    for name, schema in core.items():
        keys = schema.schema.schema  # type: ignore[attr-defined]
        schemas.append(("storage" if name == "backup" else name, keys))
    for section, keys in schemas:
        yield from (f"{section}: {key}" for key in keys if key.reloadable)


def test_every_key_that_can_be_reloaded_is_seen_to_act() -> None:
    assert ACT - {"worker: on_battery: slots"} == set(reloadable())
