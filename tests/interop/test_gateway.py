"""The peer in JavaScript as a worker of a real gateway: it joins, is given work, delivers."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.cli.swarm import LocalHub, LocalSwarm
from swarm_hub.util.hashing import sha256_hex
from tests.conftest import until
from tests.helpers.swarms import EXPRESS
from tests.interop.javascript import FOLDER, StartJs
from tests.interop.joining import a_client_of, ban_of, beats, dialled, joined, node, nothing_held

# Hubs, node and a busy machine.
pytestmark = pytest.mark.timeout(180)
BLOB = os.urandom(16_000_000)
EITHER_WAY = pytest.mark.parametrize("express", [True, False], ids=["express", "stream"])


@pytest.fixture
def gateway(local: LocalSwarm) -> LocalHub:
    """Return a gateway with its defaults."""
    return local.start_gateway()


JOBS: dict[str, tuple[Any, dict[str, Any], bytes]] = {
    "primes": (range(10_000), {"shard_size": 500, "reduce": "sum"}, b"1229"),
    "sum": (list(range(10_000)), {"split": "i32", "shard_size": 500, "reduce": "sum"}, b"49995000"),
    "echo": (b"a\nb\nc\n", {"split": "lines", "shard_size": 1, "reduce": "concat"}, b"a\nb\nc\n"),
}


@EITHER_WAY
async def test_it_computes_jobs_of_three_abis_alone(
    gateway: LocalHub, start_js: StartJs, modules: dict[str, bytes], express: bool
) -> None:
    js = await start_js(trust=[gateway.public_key], name="visitor", express=express)
    async with a_client_of(gateway) as client:
        found = await joined(js, gateway, client)
        assert (found["name"], found["slots"], found["refuses"]) == ("visitor", 1, None)
        for name, (items, spec, result) in JOBS.items():
            job_id = await client.submit(modules[name], items, **spec)
            status = await client.wait(job_id)
            assert status["state"] == "completed", status
            assert await client.result(job_id) == result
            attempts = [shard["attempts"] for shard in await client.shards(job_id)]
            assert all(len(shard) == 1 for shard in attempts)
            assert {each["node_id"] for shard in attempts for each in shard} == {js.id}
        await nothing_held(js, gateway)


async def test_a_gateway_that_dials_it_gives_it_work(
    local: LocalSwarm, start_js: StartJs, modules: dict[str, bytes]
) -> None:
    js = await start_js()
    gateway = local.start_gateway(mesh={"bootnodes": f"[{js.address}]"})
    await js.do("trust", key=gateway.public_key)
    async with a_client_of(gateway) as client:
        await node(client, js, "up")
        assert await client.map(modules["primes"], range(1000), reduce="sum") == 168


@EITHER_WAY
async def test_heartbeats_and_telemetry_are_understood_both_ways(
    local: LocalSwarm, start_js: StartJs, express: bool
) -> None:
    gateway = local.start_gateway(mesh={"heartbeat": "0.5"})
    js = await start_js(trust=[gateway.public_key], heartbeat_ms=500, express=express)
    async with a_client_of(gateway) as client:
        await joined(js, gateway, client)

        async def told() -> bool:
            await js.do("telemetry", cpu_percent=12.5, battery_percent=80)
            found = await node(client, js, "up")
            theirs = (await js.state(gateway.peer_id))["rtt_ms"]
            battery = found["telemetry"]["battery_percent"]
            return battery == 80 and found["rtt_ms"] is not None and theirs is not None

        await until(told, bool)
        # Some beats later it is still there, and has not come anew.
        before = (await node(client, js, "up"))["last_seen"]
        await until(lambda: beats(js, gateway), lambda count: count > 5)
        assert (await node(client, js, "up"))["last_seen"] == before


async def test_sixteen_megabytes_travel_both_ways_by_the_stream(
    local: LocalSwarm, start_js: StartJs, modules: dict[str, bytes]
) -> None:
    # The express plane listens where the bulk plane does.
    gateway = local.start_gateway(mesh={"bulk": "false"})
    assert await carried_both_ways(gateway, start_js, modules) == []


async def test_sixteen_megabytes_travel_both_ways_by_record(
    gateway: LocalHub, start_js: StartJs, modules: dict[str, bytes]
) -> None:
    assert await carried_both_ways(gateway, start_js, modules, bulk=False) == [sha256_hex(BLOB)]


async def test_sixteen_megabytes_travel_both_ways_by_the_bulk_plane(
    gateway: LocalHub, start_js: StartJs, modules: dict[str, bytes]
) -> None:
    by_bulk = await carried_both_ways(gateway, start_js, modules)
    assert by_bulk == [sha256_hex(BLOB), sha256_hex(BLOB)]


async def carried_both_ways(
    gateway: LocalHub, start_js: StartJs, modules: dict[str, bytes], *, bulk: bool = True
) -> list[str]:
    """Have it fetch a shard's input, and the gateway fetch the result, which is the same bytes.

    Returns the hashes of what went over the bulk plane.
    """
    js = await start_js(trust=[gateway.public_key], bulk=bulk)
    async with a_client_of(gateway) as client:
        await joined(js, gateway, client)
        job_id = await client.submit(modules["echo"], BLOB, split="files", reduce="concat")
        status = await client.wait(job_id)
        assert status["state"] == "completed", status
        assert sha256_hex(await client.result(job_id)) == sha256_hex(BLOB)
        await nothing_held(js, gateway)
        # The session is as good as before.
        assert await client.map(modules["primes"], range(1000), reduce="sum") == 168
        state = await js.state(gateway.peer_id)
        assert state["log"] == []
        return list(state["by_bulk"])


async def test_it_goes_on_with_a_blob_where_it_stopped(
    gateway: LocalHub, start_js: StartJs, modules: dict[str, bytes]
) -> None:
    js, other = await start_js(trust=[gateway.public_key], idle=True), await start_js()
    module = modules["primes"]
    async with a_client_of(gateway) as client:
        await joined(other, gateway, client)
        found = await until(lambda: node(client, other, "up"), lambda each: each["refuses"])
        assert found["refuses"] == "this key is not trusted here"
        await joined(js, gateway, client)
        # It does not begin, so the module stays there to be fetched, by this node alone.
        await client.submit(module, range(1000))
        await until(lambda: js.state(gateway.peer_id), lambda state: state["held"])
        asked = {"peer_id": gateway.peer_id, "sha": sha256_hex(module), "size": len(module)}
        for offset in (0, 100):
            rest = module[offset:]
            expected = {"size": len(rest), "sha": sha256_hex(rest)}
            assert await js.do("fetch", **asked, offset=offset) == expected
        for peer, sha in ((js, "0" * 64), (other, asked["sha"])):
            with pytest.raises(RuntimeError, match="does not have"):
                await peer.do("fetch", **{**asked, "sha": sha}, offset=0)


async def test_a_peer_of_version_2_is_heard_as_far_as_it_is_told_to_update(
    gateway: LocalHub, start_js: StartJs
) -> None:
    js = await start_js(trust=[gateway.public_key], version=2)
    async with a_client_of(gateway) as client:
        await until(lambda: dialled(js, gateway), bool, 60)
        state = await until(lambda: js.state(gateway.peer_id), lambda state: not state["live"])
        (bye,) = [line for line in state["log"] if line.startswith("bye: ")]
        assert "we speak 3, the other side 2: update swarm-hub" in bye
        assert js.id not in {each["node_id"] for each in await client.nodes()}


async def test_a_wrong_signature_of_its_hello_is_refused_and_does_not_ban(
    gateway: LocalHub, start_js: StartJs
) -> None:
    js = await start_js(trust=[gateway.public_key], flaw="hello")
    async with a_client_of(gateway) as client:
        await until(lambda: dialled(js, gateway), bool, 60)
        state = await until(lambda: js.state(gateway.peer_id), lambda state: not state["live"])
        assert "bye: the signature of its hello is wrong" in state["log"]
        assert js.id not in {each["node_id"] for each in await client.nodes()}
        await js.do("flaw", type=None)
        await joined(js, gateway, client)


async def test_a_wrong_signature_of_an_envelope_bans_it_until_it_is_unbanned(
    gateway: LocalHub, start_js: StartJs, modules: dict[str, bytes]
) -> None:
    # By record there is no signature that could be wrong.
    js = await start_js(trust=[gateway.public_key], express=False)
    async with a_client_of(gateway) as client:
        await joined(js, gateway, client)
        await js.do("flaw", type="batch")
        job_id = await client.submit(modules["primes"], range(1000), reduce="sum")
        assert (await ban_of(js, client)).startswith("bad_signature")
        await until(lambda: js.state(gateway.peer_id), lambda state: not state["live"])
        assert not await dialled(js, gateway)

        await js.do("flaw", type=None)
        assert not await dialled(js, gateway)
        await client.node_action(js.id, "unban")
        await joined(js, gateway, client)
        assert (await client.wait(job_id))["result"] == 168


async def test_one_that_delivers_what_another_signed_is_banned_and_the_other_is_not(
    gateway: LocalHub, start_js: StartJs
) -> None:
    author, relay = [await start_js(trust=[gateway.public_key]) for _ in range(2)]
    async with a_client_of(gateway) as client:
        for js in (author, relay):
            await joined(js, gateway, client)
        envelope = await author.do("envelope", peer_id=gateway.peer_id, reason="not now")
        await relay.do("deliver", peer_id=gateway.peer_id, **envelope)
        assert (await ban_of(relay, client)).startswith("relayed")
        assert (await node(client, author, "up"))["refuses"] is None
        # The same bytes from who signed them are heard.
        await author.do("deliver", peer_id=gateway.peer_id, **envelope)
        await until(lambda: node(client, author, "up"), lambda each: each["refuses"] == "not now")


@pytest.fixture
def later_gateway(local: LocalSwarm, tmp_path: Path) -> LocalHub:
    """Return a gateway that says more than this version knows, in every message."""
    home = tmp_path / "gateway" / "custom_components" / "later"
    home.mkdir(parents=True)
    (home / "manifest.json").write_text(json.dumps(_MANIFEST))
    shutil.copy(FOLDER / "later_component.py", home / "__init__.py")
    shutil.copy(FOLDER.parent / "helpers" / "later.py", home)
    return local.start_gateway(extra="later:\n", mesh={"heartbeat": "0.5"})


_MANIFEST = {
    "domain": "later", "name": "Later", "documentation": "none", "version": "1.0.0",
    "dependencies": ["mesh", "signer"],
}  # fmt: skip


async def test_it_works_with_a_gateway_of_a_later_version(
    later_gateway: LocalHub, start_js: StartJs, modules: dict[str, bytes]
) -> None:
    await all_is_understood(later_gateway, start_js, modules, is_later=False)


async def test_of_a_later_version_it_works_with_a_gateway_of_this_one(
    local: LocalSwarm, start_js: StartJs, modules: dict[str, bytes]
) -> None:
    gateway = local.start_gateway(mesh={"heartbeat": "0.5"})
    await all_is_understood(gateway, start_js, modules, is_later=True)


async def all_is_understood(
    gateway: LocalHub, start_js: StartJs, modules: dict[str, bytes], *, is_later: bool
) -> None:
    """Have both say all they can, and see that each word is understood."""
    js = await start_js(trust=[gateway.public_key], later=is_later, heartbeat_ms=500)
    async with a_client_of(gateway) as client:
        await joined(js, gateway, client)
        if EXPRESS:
            await until(lambda: js.state(gateway.peer_id), lambda state: state["express"])
        for name, (items, spec, result) in JOBS.items():
            job_id = await client.submit(modules[name], items, **spec)
            assert (await client.wait(job_id))["state"] == "completed"
            assert await client.result(job_id) == result
        # Both ways beside the mesh, by tickets.
        large = BLOB[:2_000_000]
        assert await client.map(modules["echo"], large, split="files", reduce="concat") == large
        await nothing_held(js, gateway)
        await until(lambda: beats(js, gateway), bool)
        found = await until(lambda: node(client, js, "up"), lambda each: each["rtt_ms"] is not None)
        assert found["assignments"] == 0
        state = await js.state(gateway.peer_id)
        assert (state["log"], len(state["by_bulk"])) == ([], 2)
        assert ({"assign", "result_ack"} <= set(state["by_record"]["heard"])) == EXPRESS
        assert state["is_later"] is not is_later
    assert "malformed" not in gateway.log()


async def test_what_a_call_needs_and_it_lacks_it_is_not_asked_for_again(
    gateway: LocalHub, start_js: StartJs, modules: dict[str, bytes]
) -> None:
    honest = await start_js(trust=[gateway.public_key])
    async with a_client_of(gateway) as client:
        await joined(honest, gateway, client)
        job_id = await client.submit(modules["primes"], range(100), deterministic=True)

        async def why() -> str | None:
            told: str | None = (await client.status(job_id))["waits"]
            return told

        await until(why, lambda told: told == "1 node: 1 without the feature deterministic")
        # One that says it knows it, and then gives the work back.
        promises = ["deterministic"]
        boastful = await start_js(trust=[gateway.public_key], promises=promises)
        await joined(boastful, gateway, client)
        await until(why, lambda told: told == "2 nodes: 2 without the feature deterministic")
        assert await client.map(modules["primes"], range(1000), reduce="sum") == 168
        reasons = [event["data"].get("reason") for event in await client.story(job_id)]
        assert "not known here: deterministic" in reasons
