"""Bans by command: with a reason and an end, of nodes and of networks, at every gateway."""

from typing import Any

import pytest

from swarm_hub.components.mesh import MESH
from swarm_hub.exceptions import MeshError
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.rest import call

LIBP2P = "mesh: {{listen: [/ip4/127.0.0.1/tcp/0], bootnodes: {bootnodes}, mdns: false}}\n"


async def over_tcp(swarm: Swarm) -> tuple[RunningHub, RunningHub]:
    """Start a gateway and a worker that speak over TCP on 127.0.0.1."""
    gateway = await swarm.gateway(extra=LIBP2P.format(bootnodes="[]"))
    mesh = gateway.hub.services[MESH]

    async def address() -> str:
        return next(iter(mesh.addresses()), "")

    bootnode = await until(address, bool)
    _, key = swarm.keys("gateway")
    worker = await swarm.start(
        "worker",
        f"worker: {{charging_only: false, min_battery: 0}}\nsigner: {{trust: ['{key}']}}\n"
        + LIBP2P.format(bootnodes=f"['{bootnode}']"),
    )
    await until(lambda: state(gateway), lambda now: now == "up")
    return gateway, worker


async def node(gateway: RunningHub) -> dict[str, Any]:
    _, body = await call(gateway, "GET", "/nodes")
    return body["nodes"][0] if body["nodes"] else {"state": None}


async def state(gateway: RunningHub) -> str | None:
    return (await node(gateway))["state"]


async def networks(gateway: RunningHub) -> list[dict[str, Any]]:
    return (await call(gateway, "GET", "/networks"))[1]["networks"]


async def test_a_ban_with_an_end_shows_it_and_lets_the_node_in_again_by_itself(
    swarm: Swarm,
) -> None:
    gateway = await swarm.gateway(extra="mesh: {transport: loopback, heartbeat: 0.1}\n")
    await swarm.worker("worker")
    await until(lambda: state(gateway), lambda now: now == "up")
    node_id = (await node(gateway))["node_id"]
    status, body = await call(
        gateway, "POST", f"/nodes/{node_id}/ban", json={"reason": "too slow", "for_s": 3600}
    )
    assert (status, body["state"], body["ban_reason"]) == (200, "banned", "too slow")
    assert body["ban_until"] is not None
    assert await state(gateway) == "banned"
    gateway.clock.offset_s += 3601
    found = await until(lambda: node(gateway), lambda now: now["state"] == "up")
    assert (found["ban_reason"], found["ban_until"]) == (None, None)


async def test_a_ban_with_an_end_survives_a_restart(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    await until(lambda: state(gateway), lambda now: now == "up")
    node_id = (await node(gateway))["node_id"]
    _, told = await call(gateway, "POST", f"/nodes/{node_id}/ban", json={"for_s": 600})
    await swarm.stop(gateway)
    gateway = await swarm.gateway()
    assert (await node(gateway))["ban_until"] == told["ban_until"]
    assert await state(gateway) == "banned"


@pytest.mark.parametrize("for_s", [0, -1, "1h", True, 1e12, [1]])
async def test_a_ban_lasts_a_number_of_seconds(swarm: Swarm, for_s: Any) -> None:
    gateway = await swarm.gateway()
    for path, body in (("/nodes/x/ban", {}), ("/networks/ban", {"network": "10.0.0.0/8"})):
        status, told = await call(gateway, "POST", path, json={**body, "for_s": for_s})
        assert (status, told["errors"][0]["path"]) == (422, "for_s")
    assert await networks(gateway) == []


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ("10.1.0.5/16", "that network is 10.1.0.0/16"),
        ("kitchen", "is no network"),
        ("10.1.0.0/33", "is no network"),
        ("", "is no network"),
        (5, "expected a network such as"),
        (None, "expected a network such as"),
    ],
)
async def test_what_is_no_network_is_refused_with_what_was_meant(
    swarm: Swarm, network: Any, said: str
) -> None:
    gateway = await swarm.gateway()
    status, body = await call(gateway, "POST", "/networks/ban", json={"network": network})
    assert status == 422
    assert said in body["message"]


@pytest.mark.parametrize(
    "network", ["127.0.0.0/8", "127.0.0.1", "0.0.0.0/0", "::/0", "127.5.0.0/16"]
)
async def test_the_hubs_own_network_is_banned_only_with_force(swarm: Swarm, network: str) -> None:
    gateway = await swarm.gateway()
    status, body = await call(gateway, "POST", "/networks/ban", json={"network": network})
    assert (status, body["code"]) == (409, "own_network")
    assert "if that is meant" in body["message"]
    assert await networks(gateway) == []
    content = {"network": network, "force": True, "reason": "quarantine"}
    status, body = await call(gateway, "POST", "/networks/ban", json=content)
    assert (status, body["reason"], body["until"]) == (200, "quarantine", None)


async def test_a_banned_network_is_cut_and_refused_in_both_directions_until_it_is_unbanned(
    swarm: Swarm,
) -> None:
    gateway, worker = await over_tcp(swarm)
    content = {"network": "127.0.0.0/8", "reason": "a test", "force": True}
    await call(gateway, "POST", "/networks/ban", json=content)
    await until(lambda: state(gateway), lambda now: now == "down")
    transport = gateway.hub.services[MESH]._transports
    theirs = worker.hub.services[MESH].addresses()[0]
    with pytest.raises(MeshError, match="in a banned network"):
        await transport.dial(theirs)
    dialling = worker.hub.services[MESH]._transports
    with pytest.raises(MeshError, match="cannot dial"):
        await dialling.dial(gateway.hub.services[MESH].addresses()[0])
    assert [each["network"] for each in await networks(gateway)] == ["127.0.0.0/8"]
    status, _ = await call(gateway, "POST", "/networks/unban", json={"network": "127.0.0.0/8"})
    assert status == 200
    await until(lambda: state(gateway), lambda now: now == "up")


async def test_the_ban_of_a_network_survives_a_restart_and_ends_by_itself(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    content = {"network": "10.1.0.0/16", "reason": "scanners", "for_s": 60}
    _, told = await call(gateway, "POST", "/networks/ban", json=content)
    await swarm.stop(gateway)
    gateway = await swarm.gateway()
    assert await networks(gateway) == [told]
    assert (told["network"], told["reason"]) == ("10.1.0.0/16", "scanners")
    gateway.clock.offset_s += 61
    assert await networks(gateway) == []


async def test_the_ban_of_a_network_is_followed_by_the_other_gateways_of_a_store(
    swarm: Swarm, postgres_url: str
) -> None:
    extra = f"storage: {{url: '{postgres_url}'}}\n"
    first = await swarm.gateway("first", extra=extra)
    second = await swarm.gateway("second", extra=extra)
    await call(first, "POST", "/networks/ban", json={"network": "10.2.0.0/16"})
    found = await until(lambda: networks(second), bool)
    assert [each["network"] for each in found] == ["10.2.0.0/16"]
    await call(second, "POST", "/networks/unban", json={"network": "10.2.0.0/16"})
    await until(lambda: networks(first), lambda found: found == [])


async def test_a_network_that_is_not_banned_can_not_be_unbanned(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    status, body = await call(gateway, "POST", "/networks/unban", json={"network": "10.0.0.0/8"})
    assert (status, body["code"]) == (404, "not_banned")


@pytest.mark.parametrize("how", ["it is over", "it is lifted"])
async def test_a_ban_that_ends_while_it_is_stored_is_answered(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    gateway = await swarm.gateway()
    await swarm.worker("worker")
    await until(lambda: state(gateway), lambda now: now == "up")
    node_id = (await node(gateway))["node_id"]
    store, bans = gateway.hub.store, gateway.hub.services[MESH].bans
    commit = store.commit

    async def slow_commit(*args: Any, **options: Any) -> Any:
        done = await commit(*args, **options)
        monkeypatch.setattr(store, "commit", commit)
        if how == "it is lifted":
            await bans.lift(node_id)
        else:
            gateway.clock.offset_s += 2
        return done

    monkeypatch.setattr(store, "commit", slow_commit)
    status, told = await call(gateway, "POST", f"/nodes/{node_id}/ban", json={"for_s": 1})
    assert (status, told["node_id"]) == (200, node_id)
