"""Jobs as CBOR, and answers that wait for the end: one request for a small job."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from swarm_hub.components.api.errors import ClientGone
from swarm_hub.components.gateway.service import JobService
from swarm_hub.components.gateway.views.submissions import SMALL_MAX_BYTES
from swarm_hub.exceptions import Gone
from swarm_hub.util.hashing import sha256_hex
from swarm_hub.util.strict_cbor import to_cbor
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call, finished

Modules = dict[str, bytes]
CBOR = {"Content-Type": "application/cbor"}
SUM = {"reduce": "sum"}


async def post(hub: RunningHub, body: Any, query: str = "") -> tuple[int, Any]:
    raw = body if isinstance(body, bytes) else to_cbor(body)
    return await call(hub, "POST", f"/jobs{query}", data=raw, headers=CBOR)


def job(module: bytes, **more: Any) -> dict[str, Any]:
    return {"module": module, "dataset": [["range", b"0:100"]], "spec": SUM, **more}


async def test_a_job_as_cbor_is_one_request_with_two_lines(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    code, raw = await post(gateway, job(modules["primes"]), "?wait=60")
    assert code == 200
    taken, status = map(json.loads, raw.splitlines())
    assert taken["links"]["self"].endswith(taken["job_id"])
    assert (status["job_id"], status["state"], status["result"]) == (
        taken["job_id"], "completed", 25,
    )  # fmt: skip
    assert (await finished(gateway, taken["job_id"]))["result"] == 25


async def test_the_first_line_comes_before_the_job_has_ended(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    headers = {"Authorization": f"Bearer {gateway.token}", **CBOR}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(
            f"{gateway.url}/api/v1/jobs?wait=60", data=to_cbor(job(modules["primes"]))
        ) as response,
    ):
        assert response.content_type == "application/x-ndjson"
        taken = json.loads(await response.content.readline())
        # It is on disk, and there is nobody yet to do it.
        code, status = await call(gateway, "GET", f"/jobs/{taken['job_id']}")
        assert (code, status["state"]) == (202, "queued")
        await swarm.worker("worker")
        assert json.loads(await response.content.readline())["result"] == 25


async def test_after_its_time_the_last_line_is_how_the_job_is_then(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    _, raw = await post(gateway, job(modules["primes"]), "?wait=1")
    assert [json.loads(line).get("state") for line in raw.splitlines()] == [None, "queued"]


async def test_a_module_that_is_here_may_be_named_by_its_hash(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    named = {"module_sha": sha256_hex(modules["primes"]), "dataset": [["", b"0:100"]], "spec": SUM}
    code, body = await post(gateway, named)
    assert (code, body["code"]) == (404, "unknown_module")
    assert (await post(gateway, job(modules["primes"])))[0] == 202
    code, body = await post(gateway, named)
    assert code == 202
    assert (await finished(gateway, body["job_id"]))["result"] == 25


WRONG: dict[str, tuple[Any, int, str]] = {
    "no CBOR": (b"\xff\xff", 400, "invalid_cbor"),
    "bytes after its end": (to_cbor({}) + b"\0", 400, "invalid_cbor"),
    "no map": ([1], 400, "invalid_cbor"),
    "a tag": (b"\xc1\x00", 400, "invalid_cbor"),
    "an unknown key": ({"modul": b""}, 422, "unknown_key"),
    "no module": ({"spec": {}}, 422, "no_module"),
    "a module that is text": ({"module": "x"}, 422, "no_module"),
    "a hash that is none": ({"module_sha": "../x"}, 422, "no_module"),
    "bytes in the spec": ({"module": b"", "spec": {"split": b"x"}}, 422, "invalid_spec"),
    "a script that is text": ({"module": b"", "script": "x"}, 422, "no_script"),
    "a dataset that is bytes": ({"module": b"", "dataset": b"0:1"}, 422, "no_dataset"),
    "a file without a name": ({"module": b"", "dataset": [[None, b""]]}, 422, "no_dataset"),
    "a name with NUL": ({"module": b"", "dataset": [["a\0", b""]]}, 422, "no_dataset"),
    "too many files": ({"module": b"", "dataset": [["", b""]] * 10_001}, 413, "too_many_files"),
    "too much": (b"\0" * (SMALL_MAX_BYTES + 1), 413, "request_too_large"),
}


async def test_what_is_wrong_is_said_and_nothing_is_stored(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    for wrong, (body, expected, word) in WRONG.items():
        code, answer = await post(gateway, body, "?wait=60")
        assert (code, answer["code"]) == (expected, word), (wrong, answer)
    assert (await call(gateway, "GET", "/jobs"))[1]["jobs"] == []


async def test_an_answer_that_can_not_be_ended_ends_the_connection_alone(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await swarm.gateway()

    async def gone(*_: object) -> None:
        raise Gone("pruned", "the job was removed meanwhile")

    monkeypatch.setattr(JobService, "ended", gone)
    with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientConnectionError)):
        await post(gateway, job(modules["primes"]), "?wait=60")
    assert len((await call(gateway, "GET", "/jobs"))[1]["jobs"]) == 1


async def test_a_client_that_leaves_while_it_waits_disturbs_nobody(
    swarm: Swarm, modules: Modules, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await swarm.gateway()
    waiting = asyncio.create_task(post(gateway, job(modules["primes"]), "?wait=60"))

    async def jobs() -> list[Any]:
        return list((await call(gateway, "GET", "/jobs"))[1]["jobs"])

    found = await until(jobs, bool)
    waiting.cancel()
    await asyncio.wait([waiting])
    await swarm.worker("worker")
    assert (await finished(gateway, found[0]["job_id"]))["result"] == 25
    assert not [each for each in caplog.records if each.levelname == "ERROR"]
    assert ClientGone.__name__ not in caplog.text
