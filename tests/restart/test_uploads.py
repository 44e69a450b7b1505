"""A gateway that is killed has the blobs that it acknowledged, and the pieces that it answered."""

from typing import Any

import aiohttp

from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.client import SwarmClient, UnreachableError
from swarm_hub.util.hashing import sha256_hex
from tests.conftest import until

LARGE = b"".join(b"%07d\n" % number for number in range(100_000))
SMALL = b"a\n"


async def put(hub: LocalHub, body: bytes, start: int, end: int) -> int:
    headers = {
        "Authorization": f"Bearer {hub.token}",
        "Content-Range": f"bytes {start}-{end - 1}/{len(body)}",
    }
    url = f"{hub.url}/api/v1/blobs/{sha256_hex(body)}"
    async with (
        aiohttp.ClientSession() as session,
        session.put(url, data=body[start:end], headers=headers) as response,
    ):
        return response.status


async def serves(hub: LocalHub) -> None:
    async def answers() -> bool:
        try:
            async with SwarmClient(hub.url, hub.token) as client:
                await client.jobs()
        except UnreachableError:
            return False
        return True

    await until(answers, bool, timeout_s=60)


async def test_what_was_acknowledged_is_there_after_a_kill(
    local: LocalSwarm, modules: dict[str, bytes], warm_hubs: Any
) -> None:
    hub = local.start_gateway()
    await serves(hub)
    assert await put(hub, SMALL, 0, len(SMALL)) == 201
    assert await put(hub, LARGE, 0, 500_000) == 202
    hub.kill()
    hub.start()
    await serves(hub)
    # The rest of it ends in the next life, and that life by a kill.
    assert await put(hub, LARGE, 500_000, len(LARGE)) == 201
    hub.kill()
    hub.start()
    await serves(hub)
    async with SwarmClient(hub.url, hub.token) as client:
        for body in (SMALL, LARGE):
            answer = await client._json("GET", f"/blobs/{sha256_hex(body)}")
            assert (answer["offset"], answer["complete"]) == (len(body), True)
        form = aiohttp.FormData()
        form.add_field("module", modules["echo"], filename="module.wasm")
        form.add_field("dataset_sha", sha256_hex(LARGE))
        job = await client._json("POST", "/jobs", data=form)
        status = await client.status(job["job_id"])
        assert (status["dataset_sha"], status["progress"]["items"]) == (
            sha256_hex(LARGE), 100_000,
        )  # fmt: skip
