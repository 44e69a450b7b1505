"""A module may come as WAT text: the job and the store have what it is assembled to."""

import base64
from pathlib import Path

import pytest

from swarm_hub.client import SwarmClient
from swarm_hub.client.submission import Submission
from swarm_hub.util.hashing import sha256_hex
from tests.conftest import EXAMPLES, Swarm
from tests.helpers.rest import call, finished, submit

PRIMES = EXAMPLES / "primes" / "primes.wat"


async def test_text_is_the_same_module_as_the_wasm_it_gives(
    swarm: Swarm, modules: dict[str, bytes]
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    text = PRIMES.read_bytes()
    key = {"Idempotency-Key": "once"}
    _, by_form = await submit(gateway, text, b"0:100", {}, headers=key)
    _, again = await submit(gateway, text, b"0:100", {}, headers=key)
    assert again["job_id"] == by_form["job_id"]
    async with SwarmClient(gateway.url, gateway.token) as client:
        by_cbor = {"job_id": await client.submit(PRIMES, range(100))}
    expected = modules["primes"]
    for answer in (by_form, by_cbor):
        status = await finished(gateway, answer["job_id"])
        assert (status["result"], status["module_sha"]) == (25, sha256_hex(expected))
    stored = await gateway.hub.store.blobs.get(sha256_hex(expected))
    assert stored == expected


async def test_text_is_taken_in_the_seeds_json_too(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    text = base64.b64encode((EXAMPLES / "sum_i32" / "sum.wat").read_bytes()).decode()
    request = {"wasm_base64": text, "dataset": [1, 2, 3]}
    _, answer = await call(gateway, "POST", "/jobs", json=request)
    assert (await finished(gateway, answer["job_id"]))["total_sum"] == 6


async def test_the_client_asks_for_no_text_by_its_hash(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    sent: list[bool] = []
    as_cbor = Submission.as_cbor

    def noted(job: Submission, *, by_hash: bool) -> bytes:
        sent.append(by_hash)
        return as_cbor(job, by_hash=by_hash)

    monkeypatch.setattr(Submission, "as_cbor", noted)
    large = PRIMES.read_bytes() + b";; padding\n" * 3000
    async with SwarmClient(gateway.url, gateway.token) as client:
        for _ in range(2):
            assert await client.map(large, range(100), reduce="sum") == 25
    assert sent == [False, False]


async def test_text_that_is_hostile_is_refused_and_the_gateway_goes_on(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    deep = b"(module " + b"(func " * 200_000
    huge_line = b'(module (data "' + b"\\00" * 500_000 + b'") oops)'
    for text in (deep, huge_line):
        status, answer = await submit(gateway, text, b"0:100", {})
        assert (status, answer["code"]) == (422, "bad_module"), answer
        assert len(answer["message"]) < 1000
    status, _ = await call(gateway, "GET", "/health")
    assert status == 200


async def test_text_in_a_file_of_any_name_is_taken(swarm: Swarm, tmp_path: Path) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    path = tmp_path / "primes"
    path.write_bytes(b"(; no name ends in .wat here ;)\n" + PRIMES.read_bytes())
    async with SwarmClient(gateway.url, gateway.token) as client:
        assert await client.map(path, range(100), reduce="sum") == 25
