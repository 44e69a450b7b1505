"""What one shard gave can be had before its job has ended."""

from typing import Any

import pytest

from swarm_hub.components.gateway.views import shard_result
from swarm_hub.const import STORAGE_DIR, TOKENS_FILE
from swarm_hub.helpers.tokens import TokenFile
from tests.conftest import Swarm, until
from tests.helpers.rest import call, finished, submit

Modules = dict[str, bytes]


async def test_a_shards_bytes_are_given_once_they_count(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    large = b"x" * 300_000 + b"\n"
    spec = {"shard_size": 1, "reduce": "count"}
    _, body = await submit(gateway, modules["echo"], b"one\n" + large + b"\xff\n", spec)
    job = f"/jobs/{body['job_id']}"
    code, answer = await call(gateway, "GET", f"{job}/shards/1/result")
    assert (code, answer["code"]) == (404, "no_result")
    await swarm.worker("worker")
    assert await finished(gateway, body["job_id"])
    for index, given in enumerate((b"one\n", large, b"\xff\n")):
        assert await call(gateway, "GET", f"{job}/shards/{index}/result") == (200, given)
    for wrong in ("3", "-1", "x", "٣", "9" * 30):
        code, answer = await call(gateway, "GET", f"{job}/shards/{wrong}/result")
        assert (code, answer["code"]) == (404, "no_result"), wrong
    code, answer = await call(gateway, "GET", "/jobs/01NONE/shards/0/result")
    assert (code, answer["code"]) == (404, "not_found")


async def test_another_owner_does_not_get_it(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    tokens = TokenFile(gateway.folder / STORAGE_DIR / TOKENS_FILE)
    (_, ada), (_, bob) = (tokens.create(name, "submit", 0.0, owner=name) for name in ("ada", "bob"))
    await swarm.worker("worker")
    _, body = await submit(gateway, modules["echo"], b"one\n", token=ada)
    path = f"/jobs/{body['job_id']}/shards/0/result"

    async def asked() -> tuple[int, Any]:
        return await call(gateway, "GET", path, token=ada)

    assert (await until(asked, lambda found: found[0] == 200))[1] == b"one\n"
    assert (await call(gateway, "GET", path, token=bob))[0] == 404
    several = f"/jobs/{body['job_id']}/results?shards=0"
    assert (await call(gateway, "GET", several, token=ada))[1]["results"][0]["text"] == "one\n"
    assert (await call(gateway, "GET", several, token=bob))[0] == 404


async def test_the_results_of_several_shards_come_at_once(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    large = b"x" * 300_000 + b"\n"
    spec = {"shard_size": 1, "reduce": "count"}
    _, body = await submit(gateway, modules["echo"], b"one\n" + large + b"\xff\n", spec)
    path = f"/jobs/{body['job_id']}/results?shards="
    assert await call(gateway, "GET", f"{path}0,1,2") == (200, {"results": []})
    await swarm.worker("worker")
    assert await finished(gateway, body["job_id"])
    code, answer = await call(gateway, "GET", f"{path}2,0,1,0,7")
    assert code == 200
    found = answer["results"]
    assert [(each["index"], each["first_item"], each["n_items"]) for each in found] == [
        (2, 2, 1), (0, 0, 1), (1, 1, 1)
    ]  # fmt: skip
    assert [(each["text"], each["base64"]) for each in found] == [
        (None, "/wo="), ("one\n", None), (None, None)
    ]  # fmt: skip
    assert {each["node"] for each in found} == {"worker"}
    for wrong in ("-1", "x", "1,,2", ",".join(["1"] * 501)):
        assert (await call(gateway, "GET", f"{path}{wrong}"))[0] == 400, wrong
    assert (await call(gateway, "GET", "/jobs/01NONE/results?shards=0"))[0] == 404


async def test_what_is_too_much_for_one_answer_is_left_for_another(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_result, "_TOLD_MAX_BYTES", 7)
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    _, body = await submit(gateway, modules["echo"], b"one\ntwo\n", {"shard_size": 1})
    assert await finished(gateway, body["job_id"])
    _, answer = await call(gateway, "GET", f"/jobs/{body['job_id']}/results?shards=0,1")
    assert [each["text"] for each in answer["results"]] == ["one\n", None]
