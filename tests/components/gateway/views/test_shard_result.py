"""What one shard gave can be had before its job has ended."""

from typing import Any

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
