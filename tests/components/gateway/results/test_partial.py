"""The result of what was done of a job that failed or was cancelled."""

import asyncio
import io
import tarfile
from typing import Any

import aiohttp
import pytest
from sqlalchemy import Connection, select

from swarm_hub.client import ApiError, SwarmClient
from swarm_hub.components.gateway.results import partial
from swarm_hub.components.gateway.results.module_reduce import ModuleReducer
from swarm_hub.components.gateway.results.result_cache import ResultCache
from swarm_hub.components.gc import ttl
from swarm_hub.components.sandbox import STOPPED, SandboxError
from swarm_hub.storage import schema
from tests.conftest import RunningHub, Swarm
from tests.helpers.rest import call, finished, submit
from tests.helpers.stored import collect

Modules = dict[str, bytes]

LINES = b"1\n2\nX\n4\n"


async def unlucky(gateway: RunningHub, module: bytes, dataset: Any, **spec: Any) -> str:
    """Run a job of one item a shard that fails; returns its id."""
    _, body = await submit(gateway, module, dataset, {"shard_size": 1, **spec})
    status = await finished(gateway, body["job_id"])
    assert status["state"] == "failed", status
    return str(body["job_id"])


async def read(gateway: RunningHub, job_id: str) -> tuple[int, Any]:
    return await call(gateway, "GET", f"/jobs/{job_id}/result?partial=true")


@pytest.mark.parametrize(
    ("reduce", "whole"),
    [
        ("concat", b"1\n2\n4\n"),
        ("list", [1, 2, 4]),
        ("sum", 7),
        ("max", 4),
        ("count", 3),
        ("module", b"1\n,2\n,4\n"),
    ],
)
async def test_it_is_folded_in_item_order_by_the_reduce_of_the_job(
    swarm: Swarm, modules: Modules, reduce: str, whole: object
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    await swarm.worker("two")
    spec = {"split": "lines", "reduce": reduce}
    job_id = await unlucky(gateway, modules["joins_but_x"], LINES, **spec)
    assert await read(gateway, job_id) == (200, whole)
    # Nothing of it is kept: it can be had again.
    assert await read(gateway, job_id) == (200, whole)


async def test_of_json_objects_it_has_the_sums(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    lines = b'{"a": 1}\nX\n{"a": 2, "b": 5}\n'
    job_id = await unlucky(gateway, modules["joins_but_x"], lines, split="lines", reduce="json")
    assert await read(gateway, job_id) == (200, {"a": 3, "b": 5})


async def test_of_files_it_is_an_archive_of_those_that_were_written(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    spec = {"abi": "wasi-files", "limits": {"output": 3000}}
    files = [b"first", bytes(5000), b"third"]
    job_id = await unlucky(gateway, modules["copy_files"], files, **spec)
    code, body = await read(gateway, job_id)
    assert code == 200
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        assert archive.getnames() == ["0.bin", "2.bin"]


async def test_it_says_of_how_many_items_it_is(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    job_id = await unlucky(gateway, modules["unlucky"], b"0:8")
    url = f"{gateway.url}/api/v1/jobs/{job_id}/result?partial=true"
    headers = {"Authorization": f"Bearer {gateway.token}"}
    async with aiohttp.ClientSession(headers=headers) as session, session.get(url) as response:
        assert await response.read() == b"7"
        told = response.headers
        assert (told["Swarm-Items-Done"], told["Swarm-Items"]) == ("7", "8")
        assert response.content_type == "application/json"


async def test_a_large_one_comes_from_a_file_that_is_gone_afterwards(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    records = [letter * 60_000 for letter in (b"A", b"B", b"X", b"D")]
    spec = {"split": "records:60000", "reduce": "concat"}
    job_id = await unlucky(gateway, modules["joins_but_x"], b"".join(records), **spec)

    def blobs(connection: Connection) -> set[str]:
        return set(connection.execute(select(schema.blobs.c.sha)).scalars())

    before = await gateway.hub.store.read(blobs)
    code, body = await read(gateway, job_id)
    assert (code, body == b"".join((records[0], records[1], records[3]))) == (200, True)
    assert await gateway.hub.store.read(blobs) == before
    assert list((gateway.folder / "blobs" / "incoming").iterdir()) == []


async def test_of_a_cancelled_job_too(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    _, body = await submit(gateway, modules["spin"], b"0:100000", {"shard_size": 50})
    job_id = body["job_id"]
    status: dict[str, Any] = {"progress": {"shards_done": 0}}
    while status["progress"]["shards_done"] < 2:
        _, status = await call(gateway, "GET", f"/jobs/{job_id}?wait=1")
    _, status = await call(gateway, "DELETE", f"/jobs/{job_id}")
    assert await read(gateway, job_id) == (200, status["progress"]["items_done"])


async def test_without_the_word_the_refusal_says_what_there_is(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    job_id = await unlucky(gateway, modules["unlucky"], b"0:8")
    code, answer = await call(gateway, "GET", f"/jobs/{job_id}/result")
    assert (code, answer["code"]) == (409, "no_result")
    assert answer["message"] == (
        f"job {job_id} is failed; only a completed job has a result; --partial (?partial=true) "
        "gives that of the 7 of 8 items that were done"
    )
    assert await call(gateway, "GET", f"/jobs/{job_id}/result?partial=false") == (code, answer)


async def test_of_an_unfinished_job_there_is_none(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    _, body = await submit(gateway, modules["count"], b"0:100")
    code, answer = await read(gateway, body["job_id"])
    assert (code, answer["code"]) == (409, "no_result")
    assert answer["message"].endswith(
        "is queued; a partial result is there once it has failed or was cancelled"
    )


@pytest.mark.parametrize("query", ["", "?partial=true"])
async def test_of_a_job_of_which_nothing_was_done_there_is_none(
    swarm: Swarm, modules: Modules, query: str
) -> None:
    gateway = await swarm.gateway()
    _, body = await submit(gateway, modules["count"], b"0:100")
    await call(gateway, "DELETE", f"/jobs/{body['job_id']}")
    code, answer = await call(gateway, "GET", f"/jobs/{body['job_id']}/result{query}")
    assert (code, answer["code"]) == (409, "no_result")
    assert answer["message"].endswith(
        "is cancelled; only a completed job has a result, and none of its 100 items was done"
    )


async def test_of_a_completed_job_it_is_the_result(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    async with SwarmClient(gateway.url, gateway.token) as client:
        job_id = await client.submit(modules["count"], range(100))
        await client.wait(job_id)
        assert await client.result(job_id, partial=True) == await client.result(job_id) == b"100"


async def test_the_client_has_it(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    job_id = await unlucky(gateway, modules["unlucky"], b"0:8")
    async with SwarmClient(gateway.url, gateway.token) as client:
        assert await client.result(job_id, partial=True) == b"7"
        with pytest.raises(ApiError, match="7 of 8 items"):
            await client.result(job_id)


@pytest.mark.parametrize("word", ["1", "yes", "", "True"])
async def test_another_word_is_400(swarm: Swarm, word: str) -> None:
    gateway = await swarm.gateway()
    code, answer = await call(gateway, "GET", f"/jobs/any/result?partial={word}")
    assert (code, answer["code"]) == (400, "invalid_query")
    assert answer["message"] == "partial: expected true or false"


async def test_results_that_can_not_be_folded_are_409_with_the_reason(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    spec = {"split": "lines", "reduce": "sum"}
    job_id = await unlucky(gateway, modules["echo"], b"1\nno number\n", **spec)
    code, answer = await read(gateway, job_id)
    assert (code, answer["code"]) == (409, "no_result")
    assert "what was done can't be folded: shard 1 gave b'no number" in answer["message"]


async def test_a_job_that_is_removed_while_it_is_folded_is_410(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    job_id = await unlucky(gateway, modules["unlucky"], b"0:8")
    fold_into = ResultCache.fold_into

    async def folds_what_is_left(*arguments: Any) -> int:
        gateway.clock.offset_s += 10
        await collect(gateway.hub, ttl.create(0, 0))
        return await fold_into(*arguments)

    monkeypatch.setattr(ResultCache, "fold_into", folds_what_is_left)
    code, answer = await read(gateway, job_id)
    assert (code, answer["code"]) == (410, "pruned")


async def test_a_hub_that_stops_meanwhile_says_so(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stops(*_: Any) -> None:
        raise SandboxError(STOPPED, "the sandbox is closed")

    gateway = await swarm.gateway()
    await swarm.worker("one")
    spec = {"split": "lines", "reduce": "module"}
    job_id = await unlucky(gateway, modules["joins_but_x"], LINES, **spec)
    monkeypatch.setattr(ModuleReducer, "fold", stops)
    code, answer = await read(gateway, job_id)
    assert (code, answer["code"]) == (503, "busy")
    assert "the hub is stopping" in answer["message"]


async def test_a_few_are_folded_at_once_and_others_told_to_come_back(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("one")
    job_id = await unlucky(gateway, modules["unlucky"], b"0:8")
    fold_into, may_go_on, under_way = ResultCache.fold_into, asyncio.Event(), asyncio.Semaphore(0)

    async def waits(*arguments: Any) -> int:
        under_way.release()
        await may_go_on.wait()
        return await fold_into(*arguments)

    monkeypatch.setattr(ResultCache, "fold_into", waits)
    monkeypatch.setattr(partial, "_TURN_WITHIN_S", 0.05)
    first = [asyncio.create_task(read(gateway, job_id)) for _ in range(2)]
    async with asyncio.timeout(30):
        for _ in first:
            await under_way.acquire()
    code, answer = await read(gateway, job_id)
    assert (code, answer["code"]) == (503, "busy")
    may_go_on.set()
    assert await asyncio.gather(*first) == [(200, 7), (200, 7)]
    assert await read(gateway, job_id) == (200, 7)
