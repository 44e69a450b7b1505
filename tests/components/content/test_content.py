"""Large results by their hash: found wherever they are, given only to hubs that are trusted."""

import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from swarm_hub.cli.swarm import free_port
from swarm_hub.client import ApiError, SwarmClient
from swarm_hub.components.content import announcer, search
from swarm_hub.components.mesh import MESH, Mesh
from swarm_hub.exceptions import MeshError
from swarm_hub.models.messages import Result
from swarm_hub.storage.queries import inbox
from swarm_hub.storage.queries.inbox import OutboxEntry
from swarm_hub.util.hashing import sha256_hex
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call, finished, submit

pytestmark = pytest.mark.slow

DATASET = random.Random(7).randbytes(300_000)
BODY = DATASET  # what `cat` makes of it
SHA = sha256_hex(BODY)
WRONG = BODY[:-1] + b"x"
UNKNOWN = "0" * 64
Modules = dict[str, bytes]


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what waits on a worker announced soon; what ends is announced at once anyway."""
    monkeypatch.setattr(announcer, "_LOOK_EVERY_S", 0.1)


def mesh_of(hub: RunningHub) -> Mesh:
    return hub.hub.services[MESH]


async def peers(hub: RunningHub) -> set[str]:
    return set(mesh_of(hub).peers())


def content(swarm: Swarm, *trusted: str) -> str:
    """Return the part of a configuration that turns content on and trusts these hubs."""
    keys = ", ".join(f"'{swarm.keys(name)[1]}'" for name in trusted)
    return f"content: {{max: 1MiB}}\nsigner: {{trust: [{keys}]}}\n"


def bootnode(swarm: Swarm, *names: str) -> str:
    addresses = ", ".join(f"/memory/0/p2p/{swarm.keys(name)[0]}" for name in names)
    return f"mesh: {{transport: loopback, bootnodes: [{addresses}]}}\n"


async def computed(hub: RunningHub, modules: Modules) -> dict[str, Any]:
    """Have a gateway compute BODY; returns the job's last status."""
    spec = {"split": "records:100000", "reduce": "concat"}
    _, submitted = await submit(hub, modules["cat"], DATASET, spec)
    status = await finished(hub, submitted["job_id"])
    assert status["state"] == "completed"
    return status


async def owner(swarm: Swarm, modules: Modules, *trusted: str, extra: str = "") -> RunningHub:
    """Start gateway `a`, which has the result and gives it to the hubs it trusts."""
    a = await swarm.gateway("a", extra=content(swarm, *trusted) + extra)
    await swarm.worker("computer", "a")
    await computed(a, modules)
    await until(lambda: provided(a), bool)
    return a


async def provided(hub: RunningHub) -> bool:
    """Whether a hub has announced the result."""
    return mesh_of(hub).peer_id in mesh_of(hub)._transports["loopback"]._network.providers.get(
        SHA, {}
    )  # type: ignore[attr-defined]


async def data(hub: RunningHub, sha: str = SHA, **options: Any) -> tuple[int, Any]:
    return await call(hub, "GET", f"/data/{sha}", **options)


def claims(hub: RunningHub, size_bytes: int, body: bytes | None) -> None:
    """Have a hub say that it has the blob, and send this in its place."""

    def on_have(peer_id: str, fields: Mapping[str, Any]) -> None:
        mesh_of(hub).send(peer_id, "reply", {"ask": fields["ask"], "size": size_bytes})

    @asynccontextmanager
    async def source(_peer_id: str, _sha: str) -> AsyncIterator[bytes | None]:
        yield body

    mesh_of(hub).on("have", on_have)
    mesh_of(hub).exchange._sources.clear()
    mesh_of(hub).serve_blobs(source)


# Finding


async def test_a_result_is_fetched_from_the_hub_that_has_it(swarm: Swarm, modules: Modules) -> None:
    a = await owner(swarm, modules, "c")
    c = await swarm.gateway("c", extra=content(swarm, "a"))
    assert await peers(c) == set()
    assert await data(c) == (200, BODY)
    assert mesh_of(a).peer_id in await peers(c)


async def test_the_status_of_a_job_tells_the_hash_of_a_large_result_only(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway(extra="content:\n")
    await swarm.worker("worker")
    status = await computed(gateway, modules)
    assert (status["result_sha"], status["result_bytes"]) == (SHA, len(BODY))
    assert status["links"]["data"] == f"/api/v1/data/{SHA}"
    assert await data(gateway, status["result_sha"]) == (200, BODY)
    _, submitted = await submit(gateway, modules["cat"], b"small", {"reduce": "concat"})
    small = await finished(gateway, submitted["job_id"])
    assert "result_sha" not in small
    assert "data" not in small["links"]


async def test_what_was_fetched_is_kept_for_the_next_who_asks(
    swarm: Swarm, modules: Modules
) -> None:
    a = await owner(swarm, modules, "c")
    c = await swarm.gateway("c", extra=content(swarm, "a"))
    assert (await data(c))[0] == 200
    await swarm.stop(a)
    assert await data(c) == (200, BODY)


async def test_a_result_that_a_worker_can_not_deliver_is_fetched_from_it(swarm: Swarm) -> None:
    worker = await swarm.worker("worker", "a", "c", extra="content:\n")
    sha, row = await worker.hub.store.blobs.put(BODY, worker.clock.time())
    result = Result("j.0.1", "ok", "", UNKNOWN, sha, len(BODY), None, 0.1, 0.1)
    gone = OutboxEntry(result, swarm.keys("a")[0], worker.clock.time(), "")
    await worker.hub.store.commit([*inbox.finish([gone], []), row])
    c = await swarm.gateway("c", extra="content:\n")
    await until(lambda: data(c), lambda answer: answer == (200, BODY))


async def test_three_hubs_over_libp2p_find_a_result_through_the_one_in_between(
    swarm: Swarm, modules: Modules
) -> None:
    ports = {"a": free_port(), "c": free_port()}

    def mesh(name: str) -> str:
        return f"mesh: {{mdns: false, bulk: false, listen: [/ip4/127.0.0.1/tcp/{ports[name]}]}}\n"

    a = await swarm.gateway("a", extra=content(swarm, "c") + mesh("a"))
    c = await swarm.gateway("c", extra=content(swarm, "a") + mesh("c"))
    bootnodes = ", ".join(
        f"/ip4/127.0.0.1/tcp/{port}/p2p/{swarm.keys(name)[0]}" for name, port in ports.items()
    )
    b = await swarm.start(
        "b",
        f"worker: {{charging_only: false, min_battery: 0}}\n{content(swarm, 'a', 'c')}"
        f"mesh: {{mdns: false, listen: [/ip4/127.0.0.1/tcp/0], bootnodes: [{bootnodes}]}}\n",
    )
    await until(lambda: peers(b), lambda found: len(found) == 2)
    await computed(a, modules)
    assert await peers(c) == {mesh_of(b).peer_id}
    await until(lambda: data(c), lambda answer: answer == (200, BODY))
    assert await peers(c) == {mesh_of(b).peer_id, mesh_of(a).peer_id}


# What is not there


async def test_a_hash_that_nobody_has_is_404_in_bounded_time(
    swarm: Swarm, modules: Modules
) -> None:
    await owner(swarm, modules, "c")
    c = await swarm.gateway("c", extra=content(swarm, "a") + bootnode(swarm, "a"))
    await until(lambda: peers(c), bool)
    began = time.monotonic()
    status, body = await data(c, UNKNOWN)
    assert time.monotonic() - began < 5
    assert (status, body["code"]) == (404, "not_found")
    assert "none of 1 hubs" in body["message"]
    assert UNKNOWN in body["message"]


async def test_a_provider_that_is_gone_is_404_in_bounded_time(swarm: Swarm) -> None:
    c = await swarm.gateway("c", extra=content(swarm))
    nobody = swarm.keys("nobody")[0]
    network = mesh_of(c)._transports["loopback"]._network  # type: ignore[attr-defined]
    network.providers[SHA] = {nobody: None}
    began = time.monotonic()
    status, body = await data(c)
    del network.providers[SHA]
    assert time.monotonic() - began < 10
    assert (status, body["code"]) == (404, "not_found")
    assert nobody in body["message"]


async def test_a_blob_that_was_collected_is_found_no_more(swarm: Swarm, modules: Modules) -> None:
    a = await owner(swarm, modules, "c", extra="gc: {platform: ttl, completed_after: 1}\n")
    c = await swarm.gateway("c", extra=content(swarm, "a"))
    _, page = await call(a, "GET", "/jobs")
    (job,) = page["jobs"]
    assert (await call(a, "GET", f"/jobs/{job['job_id']}/result"))[0] == 200
    await until(lambda: call(a, "GET", f"/jobs/{job['job_id']}"), lambda answer: answer[0] == 410)
    await until(lambda: provided(a), lambda still: not still)
    for hub in (a, c):
        assert (await data(hub))[0] == 404


async def test_only_results_are_given_out_not_modules_or_datasets(
    swarm: Swarm, modules: Modules
) -> None:
    a = await owner(swarm, modules, "c")
    c = await swarm.gateway("c", extra=content(swarm, "a") + bootnode(swarm, "a"))
    await until(lambda: peers(c), bool)
    for hub in (a, c):
        assert (await data(hub, sha256_hex(modules["cat"])))[0] == 404


# Who gets what


async def test_a_hub_whose_key_is_not_trusted_gets_nothing(swarm: Swarm, modules: Modules) -> None:
    """It is connected and admitted as a worker, and knows the hash."""
    a = await owner(swarm, modules)
    stranger = await swarm.worker("stranger", "a", extra="content:\n")
    await until(lambda: peers(stranger), bool)
    mesh, gateway = mesh_of(stranger), mesh_of(a).peer_id
    assert [each.peer_id for each in await mesh.routes.find(SHA)] == [gateway]
    with pytest.raises(MeshError) as refused:
        await mesh.request(gateway, "have", {"sha": SHA})
    with pytest.raises(MeshError) as unknown:
        await mesh.request(gateway, "have", {"sha": UNKNOWN})
    assert str(refused.value) == str(unknown.value), "it learns nothing from the answer"
    with pytest.raises(MeshError, match="does not have"):
        await mesh.fetch(gateway, SHA, len(BODY))


async def test_a_gateway_that_is_not_trusted_finds_nothing(swarm: Swarm, modules: Modules) -> None:
    a = await owner(swarm, modules)
    c = await swarm.gateway("c", extra=content(swarm, "a"))
    status, body = await data(c)
    assert status == 404
    assert "signer: trust" in body["message"]
    assert mesh_of(c).peer_id not in await peers(a)


@pytest.mark.parametrize(
    ("first", "second", "stay"),
    [
        ("content: {}\nsigner: {trust: ['%s']}\n", "content: {}\nsigner: {trust: ['%s']}\n", True),
        ("signer: {trust: ['%s']}\n", "content: {}\nsigner: {trust: ['%s']}\n", False),
        ("content: {}\n", "content: {}\nsigner: {trust: ['%s']}\n", False),
        ("content: {}\nsigner: {trust: ['%s']}\n", "content: {}\n", False),
        ("content: {}\n", "content: {}\n", False),
    ],
)
async def test_two_gateways_stay_connected_if_both_have_content_and_trust_each_other(
    swarm: Swarm, first: str, second: str, stay: bool
) -> None:
    def extra(text: str, other: str) -> str:
        return text % swarm.keys(other)[1] if "%s" in text else text

    a = await swarm.gateway("a", extra=extra(first, "b"))
    # A worker of `a` shows that time enough has passed for a session to end.
    b = await swarm.gateway("b", extra=extra(second, "a") + bootnode(swarm, "a"))
    await swarm.worker("worker", "a")
    names = {"b", "worker"} if stay else {"worker"}
    wanted = {swarm.keys(name)[0] for name in names}
    await until(lambda: peers(a), lambda found: found == wanted)
    await until(lambda: peers(b), lambda found: bool(found) is stay)


async def test_a_gateway_that_works_too_is_a_companion_where_it_is_not_admitted_as_a_node(
    swarm: Swarm, modules: Modules
) -> None:
    port = free_port()
    a = await swarm.start(
        "a", f"gateway: {{admission: token}}\napi: {{port: {port}}}\n{content(swarm, 'c')}", port
    )
    working = "worker: {charging_only: false, min_battery: 0}\n"
    extra = content(swarm, "a") + bootnode(swarm, "a") + working
    c = await swarm.gateway("c", extra=extra)
    await computed(c, modules)
    assert mesh_of(c).peer_id in await until(lambda: peers(a), bool)
    assert await data(a) == (200, BODY)
    _, found = await call(a, "GET", "/nodes")
    assert all(node["state"] != "up" for node in found["nodes"])


# Liars


@pytest.mark.parametrize(
    ("size_bytes", "body"),
    [
        (len(BODY), WRONG),
        (len(BODY), b""),
        (len(BODY), None),
        (len(BODY) + 1, BODY + b"x"),
        (10, BODY),
        (2**40, BODY),
        (0, BODY),
        (-1, BODY),
    ],
)
async def test_a_lying_provider_is_passed_over_for_the_next(
    swarm: Swarm,
    modules: Modules,
    monkeypatch: pytest.MonkeyPatch,
    size_bytes: int,
    body: bytes | None,
) -> None:
    monkeypatch.setattr(search, "_TRANSFER_MIN_S", 1.0)
    await owner(swarm, modules, "c")
    liar = await swarm.gateway("liar", extra=content(swarm, "c"))
    claims(liar, size_bytes, body)
    c = await swarm.gateway("c", extra=content(swarm, "a", "liar") + bootnode(swarm, "liar"))
    await until(lambda: peers(c), bool)
    assert await data(c) == (200, BODY)
    assert mesh_of(liar).peer_id in await peers(c)


async def test_wrong_bytes_are_never_given_out_also_if_there_are_no_others(swarm: Swarm) -> None:
    liar = await swarm.gateway("liar", extra=content(swarm, "c"))
    claims(liar, len(WRONG), WRONG)
    c = await swarm.gateway("c", extra=content(swarm, "liar") + bootnode(swarm, "liar"))
    await until(lambda: peers(c), bool)
    status, body = await data(c)
    assert (status, body["code"]) == (404, "not_found")
    assert "the bytes that came are not" in body["message"]
    assert await c.hub.store.blobs.get(SHA) is None


@pytest.mark.parametrize(
    "fields",
    [{}, {"sha": SHA}, {"sha": "x", "ask": 1}, {"sha": 5, "ask": 1}, {"sha": SHA, "ask": "1"}],
)
async def test_odd_questions_do_no_harm(
    swarm: Swarm, modules: Modules, fields: dict[str, Any]
) -> None:
    a = await owner(swarm, modules, "c")
    c = await swarm.gateway("c", extra=content(swarm, "a") + bootnode(swarm, "a"))
    await until(lambda: peers(c), bool)
    mesh_of(c).send(mesh_of(a).peer_id, "have", fields)
    assert await data(c) == (200, BODY)


# The API


@pytest.mark.parametrize("sha", ["x", SHA[:-1], SHA + "0", "g" * 64, "..%2F..%2Fetc"])
async def test_what_is_no_hash_is_400(swarm: Swarm, sha: str) -> None:
    gateway = await swarm.gateway(extra="content:\n")
    status, body = await data(gateway, sha)
    assert (status, body["code"]) == (400, "invalid_sha256")


async def test_without_content_it_says_what_to_do(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    status, body = await data(gateway)
    assert (status, body["code"]) == (503, "no_content")
    assert "add content:" in body["message"]
    assert (await data(gateway, token=None))[0] == 401


@pytest.mark.parametrize(
    ("headers", "status", "part"),
    [
        ({}, 200, slice(None)),
        ({"Range": "bytes=0-99"}, 206, slice(0, 100)),
        ({"Range": "bytes=299990-"}, 206, slice(299_990, None)),
        ({"Range": "bytes=-10"}, 206, slice(-10, None)),
        ({"Range": "bytes=299990-400000"}, 206, slice(299_990, None)),
        ({"Range": "bytes=300000-"}, 416, None),
        ({"Range": "lines=1-2"}, 200, slice(None)),
        ({"If-None-Match": f'"{SHA}"'}, 304, slice(0, 0)),
        ({"If-None-Match": f'"{UNKNOWN}"'}, 200, slice(None)),
    ],
)
async def test_the_whole_or_a_part_comes_with_headers_for_caches(
    swarm: Swarm, modules: Modules, headers: dict[str, str], status: int, part: slice | None
) -> None:
    a = await owner(swarm, modules)
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {a.token}"}) as session,
        session.get(f"{a.url}/api/v1/data/{SHA.upper()}", headers=headers) as response,
    ):
        assert response.status == status
        if part is None:
            assert (await response.json())["code"] == "invalid_range"
            return
        assert await response.read() == BODY[part]
        assert response.headers["ETag"] == f'"{SHA}"'
        assert "immutable" in response.headers["Cache-Control"]
        if status != 304:
            assert response.content_type == "application/octet-stream"
            assert int(response.headers["Content-Length"]) == len(BODY[part])


async def test_head_tells_the_size_without_the_bytes(swarm: Swarm, modules: Modules) -> None:
    a = await owner(swarm, modules)
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {a.token}"}) as session,
        session.head(f"{a.url}/api/v1/data/{SHA}") as response,
    ):
        assert (response.status, response.headers["Content-Length"]) == (200, str(len(BODY)))
        assert await response.read() == b""


async def test_the_client_gets_the_bytes_or_the_hubs_message(
    swarm: Swarm, modules: Modules
) -> None:
    a = await owner(swarm, modules)
    async with SwarmClient(a.url, a.token) as client:
        assert await client.data(SHA) == BODY
        with pytest.raises(ApiError, match="gives out"):
            await client.data(UNKNOWN)
