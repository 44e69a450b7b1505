"""Labels that an administrator gives nodes: jobs find them, restarts keep them."""

from typing import Any

import pytest

from swarm_hub.components.mesh import MESH
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call, finished, submit

OWN = "worker: {charging_only: false, min_battery: 0, node_labels: {room: kitchen, age: old}}\n"
SPEC = {"abi": "range", "split": "range", "reduce": "sum"}
WANTED = {"constraints": {"node_labels": {"gpu": "yes"}}}


async def labels(gateway: RunningHub) -> dict[str, str] | None:
    """Return those of the only node; None while it is not connected."""
    _, body = await call(gateway, "GET", "/nodes")
    return next((dict(node["labels"]) for node in body["nodes"] if node["slots"]), None)


async def test_a_job_that_waits_for_a_label_runs_once_a_node_is_given_it(
    swarm: Swarm, modules: dict[str, bytes]
) -> None:
    gateway = await swarm.gateway()
    node = (await swarm.worker("worker", extra=OWN)).hub.services[MESH].peer_id
    await until(lambda: labels(gateway), lambda told: told == {"age": "old", "room": "kitchen"})
    _, job = await submit(gateway, modules["spin"], b"0:10", {**SPEC, **WANTED})
    _, status = await call(gateway, "GET", f"/jobs/{job['job_id']}")
    assert (status["state"], "gpu" in status["waits"]) == ("queued", True)
    changed = {"gpu": "yes", "age": "new"}
    status, body = await call(gateway, "POST", f"/nodes/{node}/label", json={"labels": changed})
    assert (status, body["labels"]) == (200, {"age": "new", "gpu": "yes", "room": "kitchen"})
    assert (await finished(gateway, job["job_id"]))["state"] == "completed"
    # What was given here outlives the gateway; what is taken away lets the node's own show again.
    await swarm.stop(gateway)
    gateway = await swarm.gateway()
    await until(lambda: labels(gateway), lambda told: told is not None and told["age"] == "new")
    gone = {"gpu": None, "age": None, "never": None}
    status, body = await call(gateway, "POST", f"/nodes/{node}/label", json={"labels": gone})
    assert (status, body["labels"]) == (200, {"age": "old", "room": "kitchen"})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "expected 1 to 32 names"),
        ([], "expected 1 to 32 names"),
        ({"a": 1}, "expected texts of at most 128 characters"),
        ({"a": "x" * 200}, "expected texts of at most 128 characters"),
        ({"": "x", "b\0": "y"}, "expected texts of at most 128 characters"),
        ({f"n{n}": "x" for n in range(33)}, "at most 32 names"),
    ],
)
async def test_labels_that_are_none_are_refused(swarm: Swarm, given: Any, said: str) -> None:
    gateway = await swarm.gateway()
    node = (await swarm.worker("worker")).hub.services[MESH].peer_id
    status, body = await call(gateway, "POST", f"/nodes/{node}/label", json={"labels": given})
    assert (status, body["code"]) == (422, "invalid_request")
    assert said in body["message"]


async def test_a_node_has_a_bounded_number_of_labels(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    node = (await swarm.worker("worker")).hub.services[MESH].peer_id
    await until(lambda: labels(gateway), lambda told: told is not None)
    many = {f"n{n}": "x" for n in range(32)}
    status, _ = await call(gateway, "POST", f"/nodes/{node}/label", json={"labels": many})
    assert status == 200
    status, body = await call(gateway, "POST", f"/nodes/{node}/label", json={"labels": {"m": "x"}})
    assert (status, body["code"]) == (422, "too_many_labels")
    assert await labels(gateway) == many
    status, _ = await call(gateway, "POST", "/nodes/12D3KooWnobody/label", json={"labels": many})
    assert status == 404
