"""Commands of components: jobs, nodes and telemetry as over REST, and subscriptions to one job."""

import asyncio
import base64
import struct
import time
from typing import Any

import pytest

from swarm_hub.cli.swarm import free_port
from swarm_hub.components.api.live import connection as connection_module
from swarm_hub.const import STORAGE_DIR, TOKENS_FILE
from swarm_hub.endpoints import Command, CommandCall, Scope
from swarm_hub.helpers.tokens import TokenFile
from tests.conftest import RunningHub, Swarm
from tests.helpers.rest import Live, call, finished, live, submit

DATA = struct.pack("<4i", 1, 2, 3, 4)


@pytest.fixture
async def gateway(swarm: Swarm) -> RunningHub:
    return await swarm.gateway()


def token(hub: RunningHub, name: str, scope: str = "submit") -> str:
    file = TokenFile(hub.folder / STORAGE_DIR / TOKENS_FILE)
    return file.create(name, scope, time.time(), owner=name)[1]


async def result(client: Live, kind: str, **fields: Any) -> Any:
    """Return the result of a command that succeeds."""
    answer = await client.command(kind, **fields)
    assert answer["success"], answer
    return answer["result"]


async def code(client: Live, kind: str, **fields: Any) -> str:
    """Return the code of a command that fails."""
    answer = await client.command(kind, **fields)
    assert not answer["success"], answer
    return str(answer["error"]["code"])


async def events_until(client: Live, last: str) -> list[dict[str, Any]]:
    """Return the events of the one subscription until one of that type."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["event_type"] != last:
        found.append((await client.receive())["event"])
    return found


async def test_the_hub_says_what_it_is_and_what_it_can_be_asked(gateway: RunningHub) -> None:
    async with live(gateway) as client:
        config = await result(client, "get_config")
        assert config["name"] == gateway.hub.name
        assert config["state"] == "running"
        assert "gateway" in config["roles"]
        assert {"job_queued", "job_progress", "telemetry"} <= set(config["event_types"])
        assert {"jobs/submit", "nodes/drain", "subscribe_job"} <= set(config["commands"])


async def test_a_job_is_submitted_looked_at_and_cancelled(
    gateway: RunningHub, modules: dict[str, bytes]
) -> None:
    job = {"wasm_base64": base64.b64encode(modules["sum"]).decode(), "dataset": [1, 2, 3]}
    async with live(gateway) as client:
        first = await result(client, "jobs/submit", **job, idempotency_key="once")
        again = await result(client, "jobs/submit", **job, idempotency_key="once")
        assert first["job_id"] == again["job_id"]
        assert first["links"]["self"].endswith(first["job_id"])
        _, by_rest = await call(gateway, "GET", f"/jobs/{first['job_id']}")
        assert await result(client, "jobs/get", job_id=first["job_id"]) == by_rest
        await result(client, "jobs/submit", **job)
        page = await result(client, "jobs/list", limit=1)
        assert len(page["jobs"]) == 1
        rest = await result(client, "jobs/list", cursor=page["cursor"])
        assert [each["job_id"] for each in rest["jobs"]] == [first["job_id"]]
        cancelled = await result(client, "jobs/cancel", job_id=first["job_id"])
        assert cancelled["state"] == "cancelled"


async def test_what_is_wrong_with_a_job_is_said_as_over_rest(
    gateway: RunningHub, modules: dict[str, bytes]
) -> None:
    module = base64.b64encode(modules["sum"]).decode()
    async with live(gateway) as client:
        assert await code(client, "jobs/submit", wasm_base64="?") == "no_module"
        assert await code(client, "jobs/submit", wasm_base64=module, datset=[1]) == "invalid_format"
        answer = await client.command(
            "jobs/submit", wasm_base64=module, dataset=[1], spec={"shard_size": -1, "redundancy": 0}
        )
        assert {each["path"] for each in answer["error"]["errors"]} == {"shard_size", "redundancy"}
        assert await code(client, "jobs/list", limit=0) == "invalid_format"
        assert await code(client, "jobs/list", limit="all") == "invalid_format"
        assert await code(client, "jobs/get", job_id="none") == "not_found"
        assert await code(client, "jobs/get") == "invalid_format"
        assert await code(client, "jobs/get", job_id="x" * 300) == "invalid_format"
        assert await code(client, "subscribe_job", job_id="none") == "not_found"
        assert await code(client, "subscribe_job", job_id="none", snce=1) == "invalid_format"


async def test_anothers_job_is_not_there_and_a_scope_is_needed(
    gateway: RunningHub, modules: dict[str, bytes]
) -> None:
    ada, bob, eve = token(gateway, "ada"), token(gateway, "bob"), token(gateway, "eve", "read")
    _, job = await submit(gateway, modules["sum"], DATA, token=ada)
    job_id = job["job_id"]
    async with live(gateway, bob) as his, live(gateway, eve) as looks:
        for kind in ("jobs/get", "jobs/cancel", "subscribe_job"):
            assert await code(his, kind, job_id=job_id) == "not_found"
        assert (await result(his, "jobs/list"))["jobs"] == []
        assert len((await result(looks, "jobs/list"))["jobs"]) == 1
        assert await code(looks, "jobs/cancel", job_id=job_id) == "wrong_scope"
        assert await code(his, "nodes/drain", node_id="x") == "wrong_scope"
    async with live(gateway, ada) as hers:
        assert (await result(hers, "jobs/cancel", job_id=job_id))["state"] == "cancelled"


async def test_nodes_are_listed_shown_and_drained(swarm: Swarm, gateway: RunningHub) -> None:
    worker = await swarm.worker("worker")
    async with live(gateway) as client:
        (node,) = (await result(client, "nodes/list"))["nodes"]
        node_id = node["node_id"]
        assert (await result(client, "nodes/show", node_id=node_id))["name"] == worker.hub.name
        drained = await result(client, "nodes/drain", node_id=node_id, reason="to be moved")
        assert (drained["state"], drained["drain_reason"]) == ("drained", "to be moved")
        assert (await result(client, "nodes/undrain", node_id=node_id))["state"] == "up"
        banned = await result(client, "nodes/ban", node_id=node_id, for_s=3600)
        assert banned["state"] == "banned"
        assert (await result(client, "nodes/unban", node_id=node_id))["state"] == "down"
        assert await code(client, "nodes/show", node_id="none") == "unknown_node"
        assert await code(client, "nodes/ban", node_id=node_id, for_s="long") == "invalid_format"


async def test_telemetry_begins_with_what_is_known(swarm: Swarm, gateway: RunningHub) -> None:
    await swarm.worker("worker")
    async with live(gateway) as client:
        await client.command("subscribe_events", event_type="telemetry")
        first = (await client.receive())["event"]
    async with live(gateway) as client:
        await result(client, "telemetry/subscribe")
        event = (await client.receive())["event"]
        assert event["data"]["node_id"] == first["data"]["node_id"]
        assert event["event_type"] == first["event_type"]
        # When it came and when clients were told of it are not the same millisecond.
        assert event["data"].keys() == first["data"].keys()
        await result(client, "telemetry/subscribe", node_id="another")
        assert (await client.command("ping"))["type"] == "pong"


async def test_one_subscription_tells_all_of_a_job(
    swarm: Swarm, gateway: RunningHub, modules: dict[str, bytes]
) -> None:
    ada = token(gateway, "ada")
    _, other = await submit(gateway, modules["sum"], DATA)
    _, job = await submit(gateway, modules["sum"], DATA, {"shard_size": 1}, token=ada)
    job_id = job["job_id"]
    async with live(gateway, ada) as client:
        assert (await result(client, "subscribe_job", job_id=job_id, since=0)).keys() == {
            "last_seq", "events_lost",
        }  # fmt: skip
        status = (await client.receive())["event"]
        assert status["event_type"] == "job_status"
        assert status["data"]["state"] == "queued"
        await swarm.worker("worker")
        heard = await events_until(client, "job_ended")
        durable = [event for event in heard if "seq" in event]
        assert {event["data"]["job_id"] for event in heard} == {job_id} != {other["job_id"]}
        kinds = [event["event_type"] for event in durable]
        assert kinds[0] == "job_queued"
        assert kinds[-1] == "job_completed"
        assert kinds.count("shard_done") == 4
        assert heard[-1]["data"]["result"] == 10
        # Who ends a subscription that has ended is not told off.
        assert (await client.command("unsubscribe_events", subscription=1))["success"]
    _, story = await call(gateway, "GET", f"/jobs/{job_id}/story")
    assert durable == story["events"]


async def test_a_job_that_has_ended_answers_at_once(
    swarm: Swarm, gateway: RunningHub, modules: dict[str, bytes]
) -> None:
    await swarm.worker("worker")
    _, job = await submit(gateway, modules["sum"], DATA, {"shard_size": 2})
    await finished(gateway, job["job_id"])
    async with live(gateway) as client:
        await result(client, "subscribe_job", job_id=job["job_id"])
        heard = await events_until(client, "job_ended")
        assert [event["event_type"] for event in heard] == ["job_status", "job_ended"]
        assert heard[-1]["data"]["result"] == 10
        await client.command("subscribe_job", job_id=job["job_id"], since=0)
        again = await events_until(client, "job_ended")
        assert [each["event_type"] for each in again if "seq" in each][-1] == "job_completed"


class Slow:
    """A command that answers when it is let."""

    def __init__(self, gateway: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go_on = asyncio.Event()
        endpoints = gateway.hub.endpoints
        monkeypatch.setattr(endpoints, "_sealed", False)
        endpoints.add_command(Command("test/slow", self.answer, Scope.READ, {}, type(None)))

    async def answer(self, _call: CommandCall) -> None:
        await self.go_on.wait()


async def test_a_command_that_takes_long_holds_up_no_other(
    gateway: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(gateway, monkeypatch)
    async with live(gateway) as client:
        await client.socket.send_json({"id": 1, "type": "test/slow"})
        await client.socket.send_json({"id": 2, "type": "get_config"})
        assert (await client.receive())["id"] == 2
        await client.socket.send_json({"id": 3, "type": "ping"})
        assert (await client.receive())["id"] == 3
        slow.go_on.set()
        assert (await client.receive())["id"] == 1


async def test_only_so_many_commands_run_at_once(
    gateway: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(gateway, monkeypatch)
    most = connection_module._RUNNING_MAX
    async with live(gateway) as client:
        commands = [{"id": number, "type": "test/slow"} for number in range(1, most + 2)]
        await client.socket.send_json(commands)
        refused = await client.receive()
        assert (refused["id"], refused["error"]["code"]) == (most + 1, "too_many_commands")
        slow.go_on.set()
        assert {(await client.receive())["id"] for _ in range(most)} == set(range(1, most + 1))


async def test_a_connection_has_so_many_subscriptions(gateway: RunningHub) -> None:
    most = connection_module.SUBSCRIPTIONS_MAX
    async with live(gateway) as client:
        for _ in range(most):
            await result(client, "subscribe_events", event_type="job_pruned")
        assert await code(client, "subscribe_events") == "too_many_subscriptions"
        assert await code(client, "telemetry/subscribe") == "too_many_subscriptions"
        assert (await client.command("unsubscribe_events", subscription=5))["success"]
        await result(client, "subscribe_events")


async def test_commands_come_in_lists_too(gateway: RunningHub) -> None:
    async with live(gateway) as client:
        await client.socket.send_json([{"id": 1, "type": "ping"}, {"id": 2, "type": "ping"}])
        assert [(await client.receive())["id"] for _ in range(2)] == [1, 2]
        for wrong in ([], [{"id": 3, "type": "ping"}] * 101):
            await client.socket.send_json(wrong)
            assert (await client.receive())["error"]["code"] == "invalid_format"


async def test_commands_count_as_requests_of_their_owner(swarm: Swarm) -> None:
    port = free_port()
    yaml = f"gateway:\napi: {{port: {port}, requests_per_owner: 5}}\n"
    gateway = await swarm.start("gateway", yaml, port)
    async with live(gateway, token(gateway, "ada")) as client:
        codes = [(await client.command("jobs/list"))["success"] for _ in range(8)]
        # A little comes back while they are sent, which lets one more pass.
        assert codes in ([True] * 5 + [False] * 3, [True] * 6 + [False] * 2)
        assert await code(client, "jobs/list") == "quota"
