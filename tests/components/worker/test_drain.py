"""Leaving in order: what has not begun goes to others at once, what runs is ended, none is lost."""

import sqlite3
import time
from collections import Counter
from contextlib import closing
from typing import Any

import pytest

from swarm_hub.components.mesh import MESH
from swarm_hub.components.sandbox import SANDBOX
from swarm_hub.models.shard import assignment_id
from swarm_hub.storage.queries import shard_results
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call, finished, submit

pytestmark = pytest.mark.slow

Modules = dict[str, bytes]
WORKER = "worker: {{charging_only: false, min_battery: 0, slots: {slots}, finish_within: {s}}}\n"
# A deadline that no test waits for: what comes to another node comes by a NACK.
PATIENT = "sla: {platform: fixed, deadline: 120}\n"
SPIN = {"abi": "range", "split": "range", "reduce": "sum"}


def worker(slots: int = 1, finish_within_s: float = 5) -> str:
    return WORKER.format(slots=slots, s=finish_within_s)


def peer_id(hub: RunningHub) -> str:
    return hub.hub.services[MESH].peer_id


async def spin(gateway: RunningHub, modules: Modules, shards: int, ms_each: int) -> str:
    """Submit a job of shards that take so long; returns its id."""
    spec = {**SPIN, "shard_size": ms_each}
    _, body = await submit(gateway, modules["spin"], b"0:%d" % (shards * ms_each), spec)
    return str(body["job_id"])


async def nodes(gateway: RunningHub) -> dict[str, dict[str, Any]]:
    _, body = await call(gateway, "GET", "/nodes")
    return {node["name"]: node for node in body["nodes"]}


async def attempts(gateway: RunningHub, job_id: str) -> list[dict[str, Any]]:
    _, body = await call(gateway, "GET", f"/jobs/{job_id}/shards?limit=5000")
    return [attempt for shard in body["shards"] for attempt in shard["attempts"]]


async def holds(gateway: RunningHub, name: str, at_least: int) -> None:
    """Wait until a node has that many assignments on its disk."""

    async def read() -> int:
        return int((await nodes(gateway)).get(name, {"assignments": 0})["assignments"])

    await until(read, lambda now: now >= at_least)


async def done(gateway: RunningHub, job_id: str) -> int:
    _, status = await call(gateway, "GET", f"/jobs/{job_id}")
    return int(status["progress"]["shards_done"])


async def counted(gateway: RunningHub, job_id: str) -> Counter[int]:
    found = await gateway.hub.store.read(shard_results.of_job, job_id)
    return Counter(result.index for result in found)


def rows(hub: RunningHub) -> tuple[int, int]:
    """Return how many assignments a worker has in its inbox and results in its outbox."""
    # One statement: a row that moves between the two is seen once.
    query = "SELECT (SELECT count(*) FROM inbox), (SELECT count(*) FROM outbox)"
    with closing(sqlite3.connect(hub.folder / "swarm_hub.db")) as database:
        inbox, outbox = database.execute(query).fetchone()
        return int(inbox), int(outbox)


def on_disk(worker: RunningHub) -> set[str]:
    """Return what a worker has accepted or still has to deliver."""
    query = "SELECT assignment_id FROM inbox UNION SELECT assignment_id FROM outbox"
    with closing(sqlite3.connect(worker.folder / "swarm_hub.db")) as database:
        return {assignment_id for (assignment_id,) in database.execute(query)}


def waited_for(gateway: RunningHub) -> set[str]:
    """Return the assignments that a gateway has given out and has no result of."""
    query = "SELECT job_id, idx, attempt FROM assignments WHERE state IN ('offered', 'accepted')"
    with closing(sqlite3.connect(gateway.folder / "swarm_hub.db")) as database:
        return {assignment_id(*row) for row in database.execute(query)}


async def state_of(gateway: RunningHub, name: str) -> str | None:
    return (await nodes(gateway)).get(name, {"state": None})["state"]


async def test_the_deep_queue_of_a_worker_that_stops_is_done_elsewhere_without_a_deadline(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway(extra=PATIENT)
    leaving = await swarm.worker("leaving", extra=worker())
    # Shards of a few milliseconds, so that many are queued ahead; then it is told to stop.
    job_id = await spin(gateway, modules, shards=600, ms_each=5)
    await holds(gateway, "leaving", 20)
    other = await swarm.worker("other", extra=worker())
    began = time.monotonic()
    await swarm.stop(leaving)
    status = await finished(gateway, job_id)
    assert (status["state"], status["result"]) == ("completed", 3000)
    assert time.monotonic() - began < 60
    assert await counted(gateway, job_id) == Counter(range(600))
    reasons = Counter(
        each["reason"] for each in await attempts(gateway, job_id) if each["state"] == "rejected"
    )
    assert reasons["the hub is stopping"] >= 10
    expired = [each for each in await attempts(gateway, job_id) if each["state"] == "expired"]
    assert expired == [], "nothing had to wait for a deadline or a lost connection"
    assert {share["node_id"] for share in status["nodes"]} == {peer_id(leaving), peer_id(other)}


async def test_a_worker_that_stopped_in_order_has_nothing_left_to_run_or_deliver(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway(extra=PATIENT)
    leaving = await swarm.worker("leaving", extra=worker())
    job_id = await spin(gateway, modules, shards=400, ms_each=5)
    await holds(gateway, "leaving", 20)
    await swarm.stop(leaving)
    assert rows(leaving) == (0, 0)
    back = await swarm.worker("leaving", extra=worker())
    status = await finished(gateway, job_id)
    assert (status["state"], status["result"]) == ("completed", 2000)
    assert await counted(gateway, job_id) == Counter(range(400))
    assert peer_id(back) == peer_id(leaving)


async def test_a_shard_that_runs_at_stop_is_finished_and_counted(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway(extra=PATIENT)
    leaving = await swarm.worker("leaving", extra=worker())
    job_id = await spin(gateway, modules, shards=2, ms_each=1000)
    await holds(gateway, "leaving", 2)
    sandbox = leaving.hub.services[SANDBOX].sandbox

    async def begun() -> bool:
        return bool(sandbox.begun())

    await until(begun, bool)
    await swarm.stop(leaving)
    found = sorted(each["state"] for each in await attempts(gateway, job_id))
    assert found == ["finished", "rejected"]
    assert await done(gateway, job_id) == 1
    assert rows(leaving) == (0, 0)


async def test_a_shard_that_takes_longer_than_the_stop_may_is_given_back(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway(extra=PATIENT)
    leaving = await swarm.worker("leaving", extra=worker(finish_within_s=0.3))
    job_id = await spin(gateway, modules, shards=1, ms_each=20_000)
    await holds(gateway, "leaving", 1)
    began = time.monotonic()
    await swarm.stop(leaving)
    assert time.monotonic() - began < 5
    (attempt,) = await attempts(gateway, job_id)
    assert attempt["state"] == "rejected"
    assert attempt["reason"] in (
        "it did not finish before the hub stopped",
        "the hub is stopping",  # when the module was still being compiled
    )
    assert rows(leaving) == (0, 0)


async def test_a_worker_without_its_gateway_keeps_what_it_has_for_the_next_start(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway(extra=PATIENT)
    lonely = await swarm.worker("lonely", extra=worker(finish_within_s=0))
    job_id = await spin(gateway, modules, shards=3, ms_each=2500)
    sandbox = lonely.hub.services[SANDBOX].sandbox

    async def begun() -> bool:
        # What has its module; a shard that loses its gateway before that is given up.
        return len(on_disk(lonely)) == 2 and bool(sandbox.begun())

    await until(begun, bool)
    await swarm.stop(gateway)
    await swarm.stop(lonely)
    assert waited_for(gateway)
    assert waited_for(gateway) <= on_disk(lonely)
    gateway = await swarm.gateway(extra=PATIENT)
    await swarm.worker("lonely", extra=worker())
    status = await finished(gateway, job_id)
    assert (status["state"], status["result"]) == ("completed", 7500)
    assert await counted(gateway, job_id) == Counter(range(3))


async def test_a_gateway_that_stops_says_so_and_its_workers_go_on_with_what_they_have(
    swarm: Swarm, modules: Modules, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    gateway = await swarm.gateway(extra=PATIENT)
    await swarm.worker("worker", extra=worker())
    job_id = await spin(gateway, modules, shards=3, ms_each=700)
    await holds(gateway, "worker", 2)
    await swarm.stop(gateway)
    assert "disconnected: the peer said: the hub is stopping" in caplog.text
    gateway = await swarm.gateway(extra=PATIENT)
    status = await finished(gateway, job_id)
    assert (status["state"], status["result"]) == ("completed", 2100)
    # What it had was neither given up at the stop nor given out again after it.
    assert [each["attempt"] for each in await attempts(gateway, job_id)] == [1, 1, 1]


async def test_a_drained_node_ends_what_runs_and_gets_nothing_more(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway(extra=PATIENT)
    drained = await swarm.worker("drained", extra=worker())
    job_id = await spin(gateway, modules, shards=600, ms_each=5)
    await holds(gateway, "drained", 20)
    node = peer_id(drained)
    status, body = await call(gateway, "POST", f"/nodes/{node}/drain", json={"reason": "a new fan"})
    assert (status, body["drain_reason"]) == (200, "a new fan")
    assert body["state"] in ("draining", "drained")
    await until(lambda: state_of(gateway, "drained"), lambda state: state == "drained", 5)
    before = await attempts(gateway, job_id)
    await swarm.worker("other", extra=worker())
    status = await finished(gateway, job_id)
    assert (status["state"], status["result"]) == ("completed", 3000)
    assert await counted(gateway, job_id) == Counter(range(600))

    def of_node(found: list[dict[str, Any]]) -> int:
        return sum(each["node_id"] == node for each in found)

    # What it gave back may reach the store a moment after it counts as drained.
    after = await attempts(gateway, job_id)
    assert of_node(after) == of_node(before)
    returned = [each for each in after if each["state"] == "rejected"]
    assert returned
    assert {each["reason"] for each in returned} == {"the gateway drains this node: a new fan"}


async def test_a_drain_survives_restarts_and_undrain_ends_it(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway(extra=PATIENT)
    only = await swarm.worker("only", extra=worker())
    await until(lambda: state_of(gateway, "only"), lambda state: state == "up")
    await call(gateway, "POST", f"/nodes/{peer_id(only)}/drain")
    await swarm.stop(gateway)
    gateway = await swarm.gateway(extra=PATIENT)
    await until(lambda: state_of(gateway, "only"), lambda state: state == "drained")
    job_id = await spin(gateway, modules, shards=2, ms_each=5)
    _, status = await call(gateway, "GET", f"/jobs/{job_id}")
    assert status["waits"] == "1 node: 1 drained by an administrator"
    status, body = await call(gateway, "POST", f"/nodes/{peer_id(only)}/undrain")
    assert (status, body["state"], body["drain_reason"]) == (200, "up", None)
    assert (await finished(gateway, job_id))["result"] == 10


async def test_a_worker_that_comes_back_drained_gives_its_inbox_back(
    swarm: Swarm, modules: Modules
) -> None:
    """Of what a node held when both sides went away, it runs nothing that had not begun."""
    gateway = await swarm.gateway(extra=PATIENT)
    assignment_id = await swarm.worker("held", extra=worker(finish_within_s=0))
    job_id = await spin(gateway, modules, shards=400, ms_each=10)
    await holds(gateway, "held", 5)
    node = peer_id(assignment_id)
    await swarm.stop(gateway)
    await swarm.stop(assignment_id)
    gateway = await swarm.gateway(extra=PATIENT)
    await call(gateway, "POST", f"/nodes/{node}/drain", json={"reason": "test"})
    await swarm.worker("held", extra=worker())
    await until(lambda: state_of(gateway, "held"), lambda state: state == "drained", 10)
    before = await done(gateway, job_id)
    await swarm.worker("other", extra=worker())
    status = await finished(gateway, job_id)
    assert (status["state"], status["result"]) == ("completed", 4000)
    assert before < 400
    assert await counted(gateway, job_id) == Counter(range(400))


async def test_a_drain_holds_at_every_gateway(
    swarm: Swarm, modules: Modules, postgres_url: str
) -> None:
    extra = f"storage: {{url: '{postgres_url}'}}\n{PATIENT}"
    first, second = (
        await swarm.gateway("first", extra=extra),
        await swarm.gateway("second", extra=extra),
    )
    node = await swarm.worker("node", "first", "second", extra=worker())
    for gateway in (first, second):
        await until(lambda gateway=gateway: state_of(gateway, "node"), lambda state: state == "up")
    await call(first, "POST", f"/nodes/{peer_id(node)}/drain", json={"reason": "r"})
    await until(lambda: state_of(second, "node"), lambda state: state == "drained")
    job_id = await spin(second, modules, shards=1, ms_each=5)
    _, status = await call(second, "GET", f"/jobs/{job_id}")
    assert status["waits"] == "1 node: 1 r"
    await call(second, "POST", f"/nodes/{peer_id(node)}/undrain")
    assert (await finished(second, job_id))["state"] == "completed"
    await until(lambda: state_of(first, "node"), lambda state: state == "up")


async def test_a_gateway_that_is_also_a_worker_stops_in_order(
    swarm: Swarm, modules: Modules
) -> None:
    """Its own gateway hears what its worker gives back, and gives it to nobody while it stops."""
    both = await swarm.gateway("both", extra=f"{worker(finish_within_s=0.2)}{PATIENT}")
    job_id = await spin(both, modules, shards=400, ms_each=10)
    await holds(both, "both", 5)
    await swarm.stop(both)
    assert rows(both)[0] == 0
    both = await swarm.gateway("both", extra=f"{worker()}{PATIENT}")
    status = await finished(both, job_id)
    assert (status["state"], status["result"]) == ("completed", 4000)
    assert await counted(both, job_id) == Counter(range(400))


async def test_only_a_node_that_is_known_can_be_drained(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    for action in ("drain", "undrain"):
        status, body = await call(gateway, "POST", f"/nodes/12D3KooWnobody/{action}")
        assert (status, body["code"]) == (404, "unknown_node")
