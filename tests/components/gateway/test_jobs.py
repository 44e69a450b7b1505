"""Jobs from submission to result, over real hubs, stores and sandboxes."""

import asyncio
import json
import random
import re
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from swarm_hub.client import JobFailedError, SwarmClient
from tests.conftest import RunningHub, Swarm, until, up_nodes
from tests.helpers.rest import call, finished, submit

Modules = dict[str, bytes]
Start = Callable[..., Awaitable[SwarmClient]]


async def gateway_with(swarm: Swarm, workers: int, extra: str = "") -> RunningHub:
    """Start a gateway with workers that are up."""
    gateway = await swarm.gateway(extra=extra)
    for number in range(workers):
        await swarm.worker(f"worker-{number}")

    async def count() -> int:
        _, body = await call(gateway, "GET", "/nodes")
        return sum(node["state"] == "up" for node in body["nodes"])

    await until(count, lambda up: up == workers)
    return gateway


async def test_every_reduce_gives_what_plain_python_gives(
    gateway_with_workers: Start, modules: Modules
) -> None:
    swarm = await gateway_with_workers(3)
    values = [7, -3, 2**31 - 1, 0, 12, -(2**31), 5]
    packed = struct.pack("<7i", *values)
    numbers = "".join(f"{value}\n" for value in values).encode()
    cat, total = modules["cat"], modules["sum"]
    each: dict[str, Any] = {"split": "lines", "shard_size": 1}
    assert await swarm.map(total, packed, shard_size=2) == sum(values[:6]) + values[6]
    assert await swarm.map(cat, numbers, reduce="min", **each) == min(values)
    assert await swarm.map(cat, numbers, reduce="max", **each) == max(values)
    assert await swarm.map(cat, numbers, reduce="count", split="lines") == 7
    assert await swarm.map(cat, numbers, reduce="concat", **each) == numbers
    assert await swarm.map(cat, numbers, reduce="list", **each) == values
    counts = [{"a": 1}, {"a": 2, "b": 1}, {"c": {"d": 4}}, {"c": {"d": 1}}]
    assert await swarm.map(cat, counts, reduce="json", shard_size=1) == {
        "a": 3,
        "b": 1,
        "c": {"d": 5},
    }


async def test_each_shard_tells_what_it_used_and_what_its_command_said(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await gateway_with(swarm, 1)
    spec = {"shard_size": 1, "limits": {"fuel": 10**9}}
    _, body = await submit(gateway, modules["talks"], b"a\nb\n", spec)
    await finished(gateway, body["job_id"])
    _, found = await call(gateway, "GET", f"/jobs/{body['job_id']}/shards")
    used = [shard["result"] for shard in found["shards"]]
    assert [each["stderr"] for each in used] == ["all went well"] * 2
    assert all(each["wall_s"] >= each["cpu_s"] > 0 for each in used)
    assert all(each["peak_memory_bytes"] == 65_536 for each in used)
    # The same instructions for each, counted exactly.
    assert used[0]["fuel"] == used[1]["fuel"] > 0
    _, status = await call(gateway, "GET", f"/jobs/{body['job_id']}")
    assert status["nodes"][0]["peak_memory_bytes"] == 65_536


async def test_a_sum_beyond_64_bits_is_exact_and_spelled_out(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await gateway_with(swarm, 2)
    _, body = await submit(gateway, modules["highest"], b"0:9", {"shard_size": 1})
    status = await finished(gateway, body["job_id"])
    assert status["result"] == status["total_sum"] == 9 * (2**63 - 1)
    assert status["result_text"] == str(9 * (2**63 - 1))


async def test_every_split_reaches_the_module_and_comes_back(
    gateway_with_workers: Start, modules: Modules
) -> None:
    swarm = await gateway_with_workers(2)
    body = random.Random(1).randbytes(6000)
    echo, cat = modules["echo"], modules["cat"]
    lines = b"".join(b"line %d\n" % number for number in range(500)) + b"no newline"
    assert await swarm.map(echo, lines, split="lines", reduce="concat") == lines
    assert await swarm.map(echo, body, split="records:12", reduce="concat") == body
    assert await swarm.map(echo, body, split="files", reduce="concat") == body
    values = [1, "zwei", None, {"drei": [3.5]}]
    found = await swarm.map(cat, values, reduce="concat", shard_size=1)
    assert [json.loads(line) for line in found.splitlines()] == values
    bounds = await swarm.map(cat, range(-5, 20), abi="wasi", reduce="concat", shard_size=10)
    assert bounds == b"-5 5\n5 15\n15 20\n"


async def test_words_are_counted_as_in_plain_python(
    gateway_with_workers: Start, modules: Modules
) -> None:
    swarm = await gateway_with_workers(2)
    words = random.Random(2).choices(["ant", "bee", "cat_1", "Dog"], k=3000)
    text = " ".join(words).replace("bee ", "bee\n").encode()
    found = await swarm.map(modules["wordcount"], text, split="lines", reduce="json")
    assert found == dict(Counter(words))


async def test_five_items_on_twelve_workers(gateway_with_workers: Start, modules: Modules) -> None:
    swarm = await gateway_with_workers(12)
    job_id = await swarm.submit(modules["sum"], struct.pack("<5i", 1, 2, 3, 4, 5))
    status = await swarm.wait(job_id)
    shards = await swarm.shards(job_id)
    assert (status["state"], status["result"]) == ("completed", 15)
    assert sorted((each["first_item"], each["n_items"]) for each in shards)[0][0] == 0
    assert sum(each["n_items"] for each in shards) == 5
    assert all(each["n_items"] > 0 for each in shards)


async def test_shard_size_cuts_exactly_that(swarm: Swarm, modules: Modules) -> None:
    gateway = await gateway_with(swarm, 2)
    _, body = await submit(gateway, modules["primes"], b"0:25", {"shard_size": 10})
    status = await finished(gateway, body["job_id"])
    assert status["result"] == 9
    _, found = await call(gateway, "GET", f"/jobs/{body['job_id']}/shards")
    assert [(each["first_item"], each["n_items"]) for each in found["shards"]] == [
        (0, 10),
        (10, 10),
        (20, 5),
    ]
    assert status["breakdown"] == [[0, 4], [1, 4], [2, 1]]


async def test_more_results_than_are_kept_in_memory_are_folded_in_item_order(
    gateway_with_workers: Start, modules: Modules
) -> None:
    swarm = await gateway_with_workers(3)
    lines = b"".join(b"%d\n" % number for number in range(700))
    job_id = await swarm.submit(modules["cat"], lines, split="lines", reduce="concat", shard_size=1)
    status = await swarm.wait(job_id)
    assert status["progress"]["shards"] == 700
    assert await swarm.result(job_id) == lines


async def test_large_inputs_and_results_travel_by_hash(
    gateway_with_workers: Start, modules: Modules
) -> None:
    swarm = await gateway_with_workers(2)
    body = random.Random(3).randbytes(1_500_000)
    job_id = await swarm.submit(
        modules["echo"], body, split="records:100000", reduce="concat", shard_size=3
    )
    status = await swarm.wait(job_id)
    assert status["state"] == "completed", status
    assert await swarm.result(job_id) == body
    expected = sum(body)
    assert await swarm.map(modules["bytesum"], body, split="records:1000", reduce="sum") == expected


async def test_a_module_that_fails_on_three_nodes_fails_the_job_with_the_text(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await gateway_with(swarm, 3)
    _, body = await submit(gateway, modules["says_no"], b"a\n")
    status = await finished(gateway, body["job_id"])
    assert (status["state"], status["status"], status["total_sum"]) == ("failed", "failed", 0)
    # The same text of all three is said once.
    (text,) = status["failures"]
    told, _, nodes = text.partition("; on ")
    assert told == "item 0 (0.bin:1): exit 3: no such luck"
    assert sorted(re.split(", | and ", nodes)) == ["worker-0", "worker-1", "worker-2"]
    code, answer = await call(gateway, "GET", f"/jobs/{body['job_id']}/result")
    assert (code, answer["code"]) == (409, "no_result")
    _, story = await call(gateway, "GET", f"/jobs/{body['job_id']}/story")
    kinds = Counter(event["event_type"] for event in story["events"])
    assert (kinds["shard_failed"], kinds["job_failed"]) == (3, 1)


async def test_a_failing_module_ends_the_job_on_a_swarm_of_one(
    gateway_with_workers: Start, modules: Modules
) -> None:
    swarm = await gateway_with_workers(1)
    with pytest.raises(JobFailedError, match="unreachable"):
        await swarm.map(modules["trap"], range(10))


async def test_results_that_are_no_numbers_fail_the_job(
    gateway_with_workers: Start, modules: Modules
) -> None:
    swarm = await gateway_with_workers(1)
    with pytest.raises(JobFailedError, match="not a number"):
        await swarm.map(modules["not_a_number"], b"a\n", split="lines", reduce="sum")


@pytest.mark.parametrize(
    ("lines", "reducer"),
    [
        (b"1e308\n1e308\n", "sum"),
        (b'{"a": "\\ud800"}\n', "json"),
        (b'"\\ud800"\n', "list"),
    ],
)
async def test_a_fold_that_goes_wrong_ends_its_job_and_not_the_gateway(
    gateway_with_workers: Start, modules: Modules, lines: bytes, reducer: str
) -> None:
    swarm = await gateway_with_workers(1)
    job_id = await swarm.submit(modules["cat"], lines, split="lines", reduce=reducer, shard_size=1)
    async with asyncio.timeout(30):
        await swarm.wait(job_id)
    assert await swarm.map(modules["primes"], range(100)) == 25


async def test_a_cancelled_job_stops_on_its_workers(swarm: Swarm, modules: Modules) -> None:
    gateway = await gateway_with(swarm, 2)
    _, body = await submit(gateway, modules["spin"], b"0:2000000", {"shard_size": 500_000})
    job = f"/jobs/{body['job_id']}"

    async def state() -> Any:
        return (await call(gateway, "GET", job))[1]["state"]

    await until(state, lambda now: now == "running")
    code, status = await call(gateway, "DELETE", job)
    assert (code, status["state"], status["status"]) == (200, "cancelled", "cancelled")
    assert (await call(gateway, "GET", f"{job}/result"))[1]["code"] == "no_result"
    again, status = await call(gateway, "DELETE", job)
    assert (again, status["state"]) == (200, "cancelled")

    async def assignments_on_nodes() -> int:
        _, found = await call(gateway, "GET", "/nodes")
        return sum(node["assignments"] for node in found["nodes"])

    await until(assignments_on_nodes, lambda count: count == 0)
    _, quick = await submit(gateway, modules["primes"], b"0:100")
    assert (await finished(gateway, quick["job_id"]))["result"] == 25


async def test_a_completed_job_can_not_be_cancelled(swarm: Swarm, modules: Modules) -> None:
    gateway = await gateway_with(swarm, 1)
    _, body = await submit(gateway, modules["primes"], b"0:100")
    await finished(gateway, body["job_id"])
    code, status = await call(gateway, "DELETE", f"/jobs/{body['job_id']}")
    assert (code, status["state"], status["result"]) == (200, "completed", 25)


async def test_a_job_waits_for_workers_and_says_so(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    _, body = await submit(gateway, modules["primes"], b"0:100")
    code, status = await call(gateway, "GET", f"/jobs/{body['job_id']}")
    assert (code, status["state"], status["status"]) == (202, "queued", "awaiting_telemetry")
    assert "node" in status["waits"] or "worker" in status["waits"]
    await swarm.worker("late")
    assert (await finished(gateway, body["job_id"]))["result"] == 25


@pytest.mark.slow
async def test_a_worker_that_leaves_loses_no_work(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    first = await swarm.worker("first")
    async with SwarmClient(gateway.url, gateway.token) as client:
        await until(lambda: up_nodes(client), lambda up: up == 1)
        job_id = await client.submit(modules["spin"], range(4000), shard_size=200)

        async def done() -> int:
            return int((await client.status(job_id))["progress"]["shards_done"])

        await until(done, lambda shards: shards >= 1)
        await swarm.stop(first)
        await swarm.worker("second")
        status = await client.wait(job_id)
        assert status["result"] == 4000
        assert {share["node_id"] for share in status["nodes"]} == {
            node["node_id"] for node in await client.nodes()
        }


async def test_a_hub_with_both_roles_is_its_own_worker(swarm: Swarm, modules: Modules) -> None:
    hub = await swarm.gateway(extra="worker: {charging_only: false}\n")
    async with SwarmClient(hub.url, hub.token) as client:
        assert await client.map(modules["primes"], range(1000), reduce="sum") == 168


async def test_urgent_jobs_go_first(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    made = {}
    for name, priority in (("calm", 0), ("urgent", 5)):
        spec = {"priority": priority, "shard_size": 60}
        _, body = await submit(gateway, modules["spin"], b"0:120", spec)
        made[name] = body["job_id"]
    await swarm.worker("worker")
    ended = {name: await finished(gateway, job_id) for name, job_id in made.items()}
    assert ended["urgent"]["started_at"] <= ended["calm"]["started_at"]
    assert ended["urgent"]["finished_at"] <= ended["calm"]["finished_at"]


async def test_twenty_jobs_at_once_each_get_their_own_answer(
    gateway_with_workers: Start, modules: Modules
) -> None:
    swarm = await gateway_with_workers(3)
    answers = await asyncio.gather(
        *(swarm.map(modules["sum"], struct.pack("<3i", n, n, 1)) for n in range(20))
    )
    assert answers == [2 * n + 1 for n in range(20)]


async def test_a_restarted_gateway_continues_its_jobs(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    _, body = await submit(gateway, modules["spin"], b"0:3000", {"shard_size": 100})

    async def done() -> int:
        _, status = await call(gateway, "GET", f"/jobs/{body['job_id']}")
        return int(status["progress"]["shards_done"])

    await until(done, lambda shards: shards >= 2)
    await swarm.stop(gateway)
    again = await swarm.gateway()
    status = await finished(again, body["job_id"])
    assert (status["state"], status["result"]) == ("completed", 3000)
    assert [index for index, _ in status["breakdown"]] == list(range(30))
