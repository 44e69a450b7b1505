"""The last hour: of each node what it measured, of the swarm what it did, in bounded memory."""

from typing import Any

import pytest

from swarm_hub.cli.swarm import free_port
from swarm_hub.components.gateway.nodes import history
from swarm_hub.components.telemetry import DeviceMeasured, NodeTelemetry
from swarm_hub.models.node import Telemetry
from swarm_hub.util.history import History
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call, finished, submit


async def told(hub: RunningHub, node: str | None = None) -> dict[str, Any]:
    query = "" if node is None else f"?node={node}"
    status, body = await call(hub, "GET", f"/telemetry/history{query}")
    assert (status, body["node_id"], body["step_s"]) == (200, node, history.STEP_S)
    columns = {each["name"]: each["values"] for each in body["columns"]}
    assert all(len(values) == len(body["t"]) for values in columns.values())
    return {"t": body["t"], **columns}


def later(hub: RunningHub, seconds: float = history.STEP_S) -> None:
    """Let time pass, and the gateway measure itself."""
    hub.clock.offset_s += seconds
    hub.hub.bus.fire(DeviceMeasured())


async def test_the_swarm_s_rates_are_of_what_was_done_between_two_rows(
    swarm: Swarm, modules: dict[str, bytes]
) -> None:
    gateway = await swarm.gateway(extra="telemetry: {interval: 1h}\n")
    gateway.clock.stop()
    await swarm.worker("worker")
    await until(
        lambda: call(gateway, "GET", "/nodes"),
        lambda found: [node["state"] for node in found[1]["nodes"]] == ["up"],
    )
    later(gateway)
    _, job = await submit(gateway, modules["count"], b"0:400", {"shard_size": 100})
    await finished(gateway, job["job_id"])
    later(gateway)
    later(gateway, 2 * history.STEP_S)
    found = await told(gateway)
    assert found["t"][-1] - found["t"][-2] == history.STEP_S
    assert found["shards_per_s"][-3:] == [pytest.approx(4 / history.STEP_S), None, 0]
    assert found["items_per_s"][-3:] == [pytest.approx(400 / history.STEP_S), None, 0]
    assert (found["nodes_up"][-1], found["jobs_running"][-1]) == (1, 0)


async def test_a_node_s_hour_is_what_it_measured_and_what_it_had_at_hand(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    for percent in (10.0, 20.0):
        news = NodeTelemetry("node", Telemetry(cpu_percent=percent, battery_percent=80.0))
        gateway.hub.bus.fire(news)
        later(gateway)
    found = await told(gateway, "node")
    assert (found["cpu_percent"], found["battery_percent"]) == ([10, 20], [80, 80])
    assert (found["temperature_c"], found["slots"]) == ([None, None], [None, None])
    # An hour after the last word of it there is nothing left.
    later(gateway, history.ROWS * history.STEP_S)
    later(gateway)
    assert (await told(gateway, "node"))["t"] == []
    assert (await call(gateway, "GET", "/telemetry/history?nod=x"))[0] == 422


async def test_no_more_nodes_are_kept_than_that(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "NODES_MAX", 2)
    gateway = await swarm.gateway()
    for node in ("a", "b", "a", "c"):
        gateway.hub.bus.fire(NodeTelemetry(node, Telemetry(cpu_percent=1.0)))
    assert [len((await told(gateway, node))["t"]) for node in "abc"] == [1, 0, 1]


def test_a_node_takes_at_most_eight_kilobytes() -> None:
    assert History(len(history._NODE), history.ROWS, history.STEP_S).size_bytes <= 8000


async def test_a_worker_says_that_it_has_no_history(swarm: Swarm) -> None:
    port = free_port()
    worker = await swarm.worker("alone", extra=f"api: {{port: {port}}}\n", port=port)
    status, body = await call(worker, "GET", "/telemetry/history")
    assert (status, body["code"]) == (503, "no_gateway")
