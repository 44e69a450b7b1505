"""Which nodes a job runs on, as its submitter asks for it and sees it."""

from typing import Any

import psutil

from tests.conftest import Swarm, until
from tests.helpers.rest import call, finished, submit
from tests.helpers.sandboxes import is_alive

Modules = dict[str, bytes]
_METERED = "worker: {charging_only: false, min_battery: 0, metered: true}\n"
_HERE = "worker: {charging_only: false, min_battery: 0, node_labels: {room: kitchen}}\n"


async def nodes_of(gateway: Any, job_id: str) -> set[str]:
    _, shards = await call(gateway, "GET", f"/jobs/{job_id}/shards")
    return {each["node_id"] for shard in shards["shards"] for each in shard["attempts"]}


async def test_a_job_runs_only_on_nodes_with_its_labels_and_waits_for_one(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("elsewhere")
    spec = {"shard_size": 10, "constraints": {"node_labels": {"room": "kitchen"}}}
    _, body = await submit(gateway, modules["primes"], b"0:100", spec)

    async def waits() -> str:
        return str((await call(gateway, "GET", f"/jobs/{body['job_id']}"))[1]["waits"])

    await until(waits, lambda text: text == "1 node: 1 without the label room: kitchen")
    await swarm.worker("kitchen", extra=_HERE)
    status = await finished(gateway, body["job_id"])
    assert (status["state"], status["result"]) == ("completed", 25)
    kitchen, _ = swarm.keys("kitchen")
    assert await nodes_of(gateway, body["job_id"]) == {kitchen}
    _, found = await call(gateway, "GET", "/nodes")
    labels = {node["node_id"]: node["labels"] for node in found["nodes"]}
    assert labels[kitchen] == {"room": "kitchen"}


async def test_a_job_keeps_off_metered_networks_if_it_says_so(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("phone", extra=_METERED)
    phone, _ = swarm.keys("phone")

    async def metered() -> bool | None:
        _, found = await call(gateway, "GET", "/nodes")
        return next(
            (node["telemetry"]["metered"] for node in found["nodes"] if node["node_id"] == phone),
            None,
        )

    await until(metered, bool)
    spec = {"constraints": {"metered": False}}
    _, body = await submit(gateway, modules["primes"], b"0:100", spec)
    _, status = await call(gateway, "GET", f"/jobs/{body['job_id']}")
    assert status["waits"] == "1 node: 1 on a metered network"
    await swarm.worker("desktop")
    assert (await finished(gateway, body["job_id"]))["result"] == 25
    desktop, _ = swarm.keys("desktop")
    assert await nodes_of(gateway, body["job_id"]) == {desktop}


async def test_a_job_that_needs_more_memory_than_a_sandbox_gives_waits(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("small", extra="sandbox: {memory: 32MiB}\n")
    spec = {"limits": {"memory": "64MiB"}, "deadline_s": 1}
    _, body = await submit(gateway, modules["primes"], b"0:100", spec)
    status = await finished(gateway, body["job_id"])
    assert status["state"] == "failed"
    assert status["failures"] == [
        "its deadline passed with 0 of 100 items done; it waited: "
        "1 node: 1 lacks 64.0 MiB of memory"
    ]
    _, body = await submit(gateway, modules["primes"], b"0:100", {**spec, "deadline_s": 60})
    _, status = await call(gateway, "GET", f"/jobs/{body['job_id']}")
    assert status["waits"] == "1 node: 1 lacks 64.0 MiB of memory"


async def test_beyond_its_bound_a_gateway_takes_no_job_until_one_ends(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.start("gateway", *_bounded(swarm))
    first, one = await submit(gateway, modules["primes"], b"0:100")
    second, _ = await submit(gateway, modules["primes"], b"0:100")
    third, body = await submit(gateway, modules["primes"], b"0:100")
    assert (first, second, third) == (202, 202, 429)
    assert body["code"] == "too_many_jobs"
    await call(gateway, "DELETE", f"/jobs/{one['job_id']}")
    again, _ = await submit(gateway, modules["primes"], b"0:100")
    assert again == 202


def _bounded(_swarm: Swarm) -> tuple[str, int]:
    from tests.conftest import free_port

    port = free_port()
    return f"gateway: {{admission: open, jobs: 2}}\napi: {{port: {port}}}\n", port


async def test_a_cancelled_shard_stops_running_within_a_second(
    swarm: Swarm, modules: Modules
) -> None:
    """A second of the CPU, as a busy machine may take long to give it; else it ran for hours."""
    gateway = await swarm.gateway()
    await swarm.worker("worker", extra="sandbox: {wall_time: 1h}\n")
    before = {child.pid: cpu_s(child) for child in psutil.Process().children()}
    _, body = await submit(gateway, modules["spin"], b"0:4000000000", {"shard_size": 2_000_000_000})

    async def computing() -> list[psutil.Process]:
        children = psutil.Process().children()
        return [each for each in children if cpu_s(each) > before.get(each.pid, 0.0) + 0.5]

    running = await until(computing, bool)
    used_s = {child.pid: cpu_s(child) for child in running}
    await call(gateway, "DELETE", f"/jobs/{body['job_id']}")
    last_s = dict(used_s)

    async def left() -> list[int]:
        alive = [child.pid for child in running if is_alive(child.pid)]
        for child in running:
            last_s[child.pid] = max(last_s[child.pid], cpu_s(child))
        return alive

    await until(left, lambda pids: pids == [], 60)
    assert max(last_s[pid] - used_s[pid] for pid in used_s) < 1.0


def cpu_s(process: psutil.Process) -> float:
    """Return the time that a process has computed; none of one that is gone."""
    try:
        return float(process.cpu_times().user)
    except psutil.NoSuchProcess:
        return 0.0


async def test_what_nodes_earned_survives_the_gateways_restart(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    for number in range(2):
        await swarm.worker(f"worker-{number}")
    spec = {"shard_size": 5, "redundancy": "adaptive"}
    _, body = await submit(gateway, modules["primes"], b"0:200", spec)
    assert (await finished(gateway, body["job_id"]))["result"] == 46

    async def trust() -> list[dict[str, Any]]:
        _, found = await call(gateway, "GET", "/nodes")
        return sorted((node["trust"] for node in found["nodes"]), key=str)

    before = await trust()
    assert all(each["agreements"] >= 30 and each["trusted"] for each in before)
    await swarm.stop(gateway)
    gateway = await swarm.gateway()
    assert await trust() == before
