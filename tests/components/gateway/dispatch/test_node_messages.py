"""What a worker says about assignments: only its own count, once, and only what was asked."""

from collections.abc import Callable
from typing import Any

import pytest

from swarm_hub.components.mesh import MESH
from swarm_hub.components.signer import SIGNER
from swarm_hub.exceptions import StoreFullError
from swarm_hub.models import messages
from swarm_hub.models.blob import SpooledBlob
from swarm_hub.models.messages import Result
from swarm_hub.util.hashing import sha256_hex
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call, finished, submit

Modules = dict[str, bytes]


def peer_id(hub: RunningHub) -> str:
    return hub.hub.services[MESH].peer_id


def say(worker: RunningHub, gateway: RunningHub, kind: str, fields: dict[str, Any]) -> None:
    worker.hub.services[SIGNER].send(peer_id(gateway), kind, fields)


def result(assignment_id: str, body: bytes = b"666", **changes: Any) -> dict[str, Any]:
    """Return a result as a worker would send it, with changes."""
    honest = Result(
        assignment_id, "ok", "", "0" * 64, sha256_hex(body), len(body), body, 0.1, 0.1
    ).to_wire()
    return {**honest, **changes}


async def running(swarm: Swarm, modules: Modules) -> tuple[RunningHub, list[RunningHub], str]:
    """Return a gateway and two workers in the middle of a job of two long shards."""
    gateway = await swarm.gateway()
    workers = [await swarm.worker(name) for name in ("first", "second")]

    async def up() -> int:
        _, body = await call(gateway, "GET", "/nodes")
        return len(body["nodes"])

    await until(up, lambda count: count == 2)
    _, body = await submit(gateway, modules["spin"], b"0:1600", {"shard_size": 800})
    return gateway, workers, body["job_id"]


async def holders(gateway: RunningHub, job_id: str) -> dict[str, str]:
    """Return assignment id → node of every first attempt, once all are given out."""

    async def given() -> list[dict[str, Any]]:
        _, found = await call(gateway, "GET", f"/jobs/{job_id}/shards")
        return list(found["shards"])

    shards = await until(given, lambda shards: len(shards) == 2)
    return {f"{job_id}.{shard['index']}.1": shard["attempts"][0]["node_id"] for shard in shards}


LIES: dict[str, Callable[[str], tuple[str, dict[str, Any]]]] = {
    "a result": lambda assignment_id: (messages.RESULT, result(assignment_id)),
    "a failure": lambda assignment_id: (
        messages.RESULT,
        result(assignment_id, code="trap", text="no"),
    ),
    "a large result": lambda assignment_id: (
        messages.RESULT,
        {**result(assignment_id), "body": None},
    ),
    "a nack": lambda assignment_id: (messages.NACK, {"ids": [assignment_id], "reason": "no"}),
    "an ack": lambda assignment_id: (messages.ACK, {"ids": [assignment_id]}),
}


@pytest.mark.parametrize("lie", LIES)
async def test_nobody_speaks_for_an_assignment_of_another_node(
    swarm: Swarm, modules: Modules, lie: str
) -> None:
    gateway, workers, job_id = await running(swarm, modules)
    for assignment_id, node_id in (await holders(gateway, job_id)).items():
        for worker in workers:
            if peer_id(worker) != node_id:
                say(worker, gateway, *LIES[lie](assignment_id))
    status = await finished(gateway, job_id)
    assert (status["state"], status["result"]) == ("completed", 1600)
    assert status["progress"]["retries"] == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"sha": "1" * 64},
        {"input_sha": "2" * 64},
        {"input_sha": sha256_hex(b"0 800\n"), "call_sha": "3" * 64},
    ],
)
async def test_a_result_that_is_not_what_was_asked_or_signed_does_not_count(
    swarm: Swarm, modules: Modules, changes: dict[str, Any]
) -> None:
    gateway, workers, job_id = await running(swarm, modules)
    by_id = {peer_id(worker): worker for worker in workers}
    assignment_id, node_id = next(iter((await holders(gateway, job_id)).items()))
    say(by_id[node_id], gateway, messages.RESULT, result(assignment_id, **changes))
    status = await finished(gateway, job_id)
    assert (status["state"], status["result"]) == ("completed", 1600)
    _, found = await call(gateway, "GET", f"/jobs/{job_id}/shards")
    index = int(assignment_id.split(".")[1])
    (shard,) = [each for each in found["shards"] if each["index"] == index]
    assert len(shard["attempts"]) >= 2


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "x" * 100},
        {"id": ""},
        {"id": "no.such.assignment"},
        {"sha": "short"},
        {"size": -1},
        {"size": 1.5},
        {"body": "text"},
        {"wall_s": "long"},
        {"wall_s": float("nan")},
        {"cpu_s": float("inf")},
        {"wall_s": float("inf")},
        {"wall_s": 10**400},
        {"code": None},
    ],
)
async def test_a_malformed_result_stops_nothing(
    swarm: Swarm, modules: Modules, fields: dict[str, Any]
) -> None:
    gateway = await swarm.gateway()
    worker = await swarm.worker("worker")
    _, body = await submit(gateway, modules["spin"], b"0:200", {"shard_size": 100})

    async def shards() -> int:
        _, found = await call(gateway, "GET", f"/jobs/{body['job_id']}/shards")
        return len(found["shards"])

    await until(shards, bool)
    say(worker, gateway, messages.RESULT, {**result(f"{body['job_id']}.0.1"), **fields})
    _, quick = await submit(gateway, modules["primes"], b"0:100", {"priority": 9})
    assert (await finished(gateway, quick["job_id"]))["result"] == 25
    status = await finished(gateway, body["job_id"])
    assert status["state"] in ("completed", "failed")
    assert status["result"] == 200 if status["state"] == "completed" else True


async def test_a_result_said_twice_is_counted_once(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    worker = await swarm.worker("worker")
    post = worker.hub.services[SIGNER]
    send = post.send

    def twice(to: str, kind: str, fields: Any, **options: Any) -> None:
        send(to, kind, fields, **options)
        if kind == messages.RESULT:
            send(to, kind, fields, **options)

    post.send = twice  # type: ignore[method-assign]
    _, body = await submit(gateway, modules["primes"], b"0:100", {"shard_size": 10})
    status = await finished(gateway, body["job_id"])
    assert (status["result"], len(status["breakdown"])) == (25, 10)
    _, story = await call(gateway, "GET", f"/jobs/{body['job_id']}/story")
    kinds = [event["event_type"] for event in story["events"]]
    assert kinds.count("shard_done") == 10


async def test_a_disk_without_room_for_the_folded_result_keeps_the_job_waiting(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job was acknowledged and all its shards are done: a full disk is no reason to fail it."""
    gateway = await swarm.gateway()
    dataset = b"x" * 999 + b"\n"
    dataset *= 400
    _, body = await submit(gateway, modules["cat"], dataset, {"reduce": "concat", "shard_size": 40})
    blobs, refused = gateway.hub.store.blobs, []
    adopt = blobs.adopt

    async def full(spooled: SpooledBlob, now: float) -> Any:
        if len(refused) < 2:
            refused.append(spooled.sha)
            raise StoreFullError("no space left on the disk")
        return await adopt(spooled, now)

    monkeypatch.setattr(blobs, "adopt", full)
    await swarm.worker("worker")
    status = await finished(gateway, body["job_id"])
    assert (status["state"], len(refused)) == ("completed", 2), status
    code, result = await call(gateway, "GET", f"/jobs/{body['job_id']}/result")
    assert (code, result) == (200, dataset)
