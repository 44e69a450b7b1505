"""Signed messages between real hubs: what acts, what is refused, and who is banned for it."""

import asyncio
import os
from typing import Any

import pytest

from swarm_hub.components.mesh import MESH, decode_messages
from swarm_hub.components.signer import SIGNER
from swarm_hub.const import SIGNER_KEY_FILE, STORAGE_DIR
from swarm_hub.models import messages
from swarm_hub.models.call import ModuleCall
from swarm_hub.storage.queries import inbox
from swarm_hub.util.ed25519 import SigningKey
from tests.conftest import MovableClock, RunningHub, Swarm, until
from tests.helpers.envelopes import (
    Wire,
    met,
    nodes,
    pair,
    peer_id,
    refused,
    sealed,
    state_is,
)
from tests.helpers.rest import call, finished, live, submit

Modules = dict[str, bytes]


async def test_a_replayed_assignment_is_neither_acked_nor_executed(
    swarm: Swarm, modules: Modules
) -> None:
    gateway, worker = await pair(swarm)
    wire, back = Wire(gateway), Wire(worker)
    _, body = await submit(gateway, modules["primes"], b"0:100", {"shard_size": 100})
    assert (await finished(gateway, body["job_id"]))["result"] == 25
    (assign,) = wire.of(messages.ASSIGN)

    async def replayed() -> int:
        return refused(worker, "replayed")

    for round_ in (1, 2):
        wire.send(peer_id(worker), assign)
        await until(replayed, lambda count, expected=round_: count == expected)
    assert back.count(messages.RESULT) == 1
    # Also after a restart, in which the memory of the worker is gone.
    await swarm.stop(worker)
    worker = await swarm.worker("worker")
    await state_is(gateway, peer_id(worker), "up")
    back = Wire(worker)
    wire.send(peer_id(worker), assign)
    await until(replayed, lambda count: count == 1)
    assert back.count(messages.ACK) == back.count(messages.RESULT) == 0
    assert not worker.hub.services[MESH].is_banned(peer_id(gateway))
    assert (await nodes(gateway))[peer_id(worker)]["state"] == "up"


async def test_a_jti_with_another_body_is_refused_and_bans_nobody(swarm: Swarm) -> None:
    gateway, worker = await pair(swarm)
    wire, jti = Wire(gateway), os.urandom(16)
    wire.send(peer_id(worker), sealed(gateway, worker, jti=jti))
    wire.send(peer_id(worker), sealed(gateway, worker, jti=jti, ids=["other.0.1"]))

    async def reused() -> int:
        return refused(worker, "jti_reused")

    assert await until(reused, bool) == 1
    assert not worker.hub.services[MESH].is_banned(peer_id(gateway))


async def test_a_bad_signature_bans_across_restarts_until_unban(
    swarm: Swarm, modules: Modules
) -> None:
    gateway, worker = await pair(swarm)
    bad = peer_id(worker)
    async with live(gateway) as client:
        await client.command("subscribe_events")
        Wire(worker).send(
            peer_id(gateway),
            sealed(worker, gateway, kind=messages.ACK, key=SigningKey(os.urandom(32))),
        )
        await state_is(gateway, bad, "banned")
        kinds = set()
        while "node_down" not in kinds or "node_banned" not in kinds:
            kinds.add((await client.receive())["event"]["event_type"])
    node = (await nodes(gateway))[bad]
    assert "bad_signature" in node["ban_reason"]
    assert refused(gateway, "bad_signature") == 1
    await swarm.stop(gateway)
    gateway = await swarm.gateway()
    assert (await nodes(gateway))[bad]["state"] == "banned"
    # The worker tries to come back all the time, and an honest one does its work meanwhile.
    await swarm.worker("honest")
    _, body = await submit(gateway, modules["primes"], b"0:100")
    status = await finished(gateway, body["job_id"])
    assert bad not in {share["node_id"] for share in status["nodes"]}
    assert (await nodes(gateway))[bad]["state"] == "banned"
    assert (await call(gateway, "POST", f"/nodes/{bad}/unban"))[0] == 200
    await state_is(gateway, bad, "up")


@pytest.mark.slow
async def test_an_envelope_passed_on_by_another_peer_bans_that_peer(swarm: Swarm) -> None:
    first = await swarm.gateway("first")
    second = await swarm.gateway("second")
    (first_id, first_key), (second_id, second_key) = swarm.keys("first"), swarm.keys("second")
    yaml = (
        "worker: {charging_only: false}\n"
        f"signer: {{trust: ['{first_key}', '{second_key}']}}\n"
        "mesh: {transport: loopback, bootnodes: "
        f"[/memory/0/p2p/{first_id}, /memory/0/p2p/{second_id}]}}\n"
    )
    worker = await swarm.start("worker", yaml)
    for gateway in (first_id, second_id):
        await met(worker, gateway)
    Wire(second).send(peer_id(worker), sealed(first, worker))
    mesh = worker.hub.services[MESH]

    async def banned() -> bool:
        return mesh.is_banned(second_id)

    await until(banned, bool)
    assert refused(worker, "relayed") == 1
    assert not mesh.is_banned(first_id)
    await until(lambda: _peers(worker), lambda peers: peers == {first_id})
    await swarm.stop(worker)
    worker = await swarm.start("worker", yaml)
    await met(worker, first_id)
    assert worker.hub.services[MESH].is_banned(second_id)
    assert await worker.hub.services[MESH].unban(second_id)
    await met(worker, second_id)


async def _peers(hub: RunningHub) -> set[str]:
    return set(hub.hub.services[MESH].peers())


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"age_s": 600}, "expired"),
        ({"age_s": -600}, "expired"),
        ({"ttl_s": 301}, "expired"),
        ({"ttl_s": 0}, "expired"),
        ({"ttl_s": -5}, "expired"),
    ],
)
async def test_times_that_are_wrong_are_refused_and_ban_nobody(
    swarm: Swarm, options: dict[str, Any], code: str
) -> None:
    gateway, worker = await pair(swarm)
    Wire(gateway).send(peer_id(worker), sealed(gateway, worker, **options))

    async def count() -> int:
        return refused(worker, code)

    assert await until(count, bool) == 1
    assert not worker.hub.services[MESH].is_banned(peer_id(gateway))
    assert peer_id(gateway) in worker.hub.services[MESH].peers()


async def test_a_wrong_audience_is_refused(swarm: Swarm) -> None:
    gateway, worker = await pair(swarm)
    Wire(gateway).send(peer_id(worker), sealed(gateway, gateway))

    async def count() -> int:
        return refused(worker, "wrong_audience")

    assert await until(count, bool) == 1


@pytest.mark.parametrize("field", ["h", "s", "b"])
async def test_a_changed_envelope_is_refused(swarm: Swarm, field: str) -> None:
    gateway, worker = await pair(swarm)
    envelope = sealed(gateway, worker)
    fields = {"h": envelope.header, "s": envelope.signature, "b": envelope.body}
    fields[field] = fields[field][:-1] + bytes([fields[field][-1] ^ 1])
    Wire(gateway).send(peer_id(worker), fields)

    async def count() -> int:
        return sum(worker.hub.services[SIGNER].refused.values())

    assert await until(count, bool) == 1


@pytest.mark.parametrize(
    "fields", [{}, {"h": 1, "s": b"", "b": b""}, {"h": b"", "s": b"", "b": b""}]
)
async def test_garbage_for_an_envelope_stops_nothing(
    swarm: Swarm, modules: Modules, fields: dict[str, Any]
) -> None:
    gateway, worker = await pair(swarm)
    Wire(gateway).send(peer_id(worker), fields)
    Wire(worker).send(peer_id(gateway), fields)
    _, body = await submit(gateway, modules["primes"], b"0:100")
    assert (await finished(gateway, body["job_id"]))["result"] == 25


@pytest.mark.parametrize(
    "kind", [messages.ASSIGN, messages.CANCEL, messages.PREEMPT, messages.RESULT_ACK]
)
@pytest.mark.parametrize("fields", [{}, {"ids": 5}, {"ids": [None]}, {"shards": [[1]], "call": 0}])
async def test_malformed_orders_in_a_good_envelope_stop_nothing(
    swarm: Swarm, modules: Modules, kind: str, fields: dict[str, Any]
) -> None:
    gateway, worker = await pair(swarm)
    gateway.hub.services[SIGNER].send(peer_id(worker), kind, fields)
    worker.hub.services[SIGNER].send(peer_id(gateway), messages.RESULT, fields)
    _, body = await submit(gateway, modules["primes"], b"0:100")
    assert (await finished(gateway, body["job_id"]))["result"] == 25


@pytest.mark.parametrize("offset_s", [600, -600])
async def test_a_worker_with_a_wrong_clock_works_and_is_not_banned(
    swarm: Swarm, modules: Modules, offset_s: float
) -> None:
    gateway = await swarm.gateway()
    clock = MovableClock()
    clock.offset_s = offset_s
    worker = await swarm.worker("worker", clock=clock)
    await state_is(gateway, peer_id(worker), "up")
    _, body = await submit(gateway, modules["primes"], b"0:100")
    async with asyncio.timeout(30):
        assert (await finished(gateway, body["job_id"]))["result"] == 25
    assert (await nodes(gateway))[peer_id(worker)]["state"] == "up"


async def test_a_changed_signing_key_is_refused_until_unban(swarm: Swarm) -> None:
    gateway, worker = await pair(swarm)
    known = peer_id(worker)
    await swarm.stop(worker)
    await state_is(gateway, known, "down")
    (worker.folder / STORAGE_DIR / SIGNER_KEY_FILE).write_bytes(os.urandom(32))
    worker = await swarm.worker("worker")
    assert peer_id(worker) == known
    # Also a gateway that restarted knows the pinned key.
    await swarm.stop(gateway)
    gateway = await swarm.gateway()
    honest = await swarm.worker("honest")
    await state_is(gateway, peer_id(honest), "up")
    assert (await nodes(gateway))[known]["state"] == "down"
    assert (await call(gateway, "POST", f"/nodes/{known}/unban"))[0] == 200
    await state_is(gateway, known, "up")


async def test_a_gateway_that_is_not_trusted_is_told_so_and_orders_nothing(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    gateway_id, _ = swarm.keys("gateway")
    worker = await swarm.start(
        "worker",
        "worker: {charging_only: false}\n"
        f"mesh: {{transport: loopback, bootnodes: [/memory/0/p2p/{gateway_id}]}}\n",
    )
    await state_is(gateway, peer_id(worker), "up")

    async def refusal() -> str | None:
        node = (await nodes(gateway))[peer_id(worker)]
        return None if node["refuses"] is None else str(node["refuses"])

    assert "signer: trust" in str(await until(refusal, bool))
    # A gateway that orders all the same gets its orders back, and nothing is run or kept.
    back, assignment_id = Wire(worker), "someone.0.1"
    assign = {
        "call": ModuleCall("0" * 64, "range", "map").to_plain(),
        "module_bytes": 8,
        "shards": [[assignment_id, "1" * 64, 4, b"0 5\n"]],
    }
    gateway.hub.services[SIGNER].send(peer_id(worker), messages.ASSIGN, assign)

    async def nacks() -> list[dict[str, Any]]:
        return [
            dict(fields)
            for envelope in back.of(messages.NACK)
            for kind, fields in decode_messages(envelope["b"])
            if kind == messages.NACK
        ]

    (nack,) = await until(nacks, bool)
    assert nack["ids"] == [assignment_id]
    assert "signer: trust" in nack["reason"]
    assert await worker.hub.store.read(inbox.open_entries) == []
    assert (await nodes(gateway))[peer_id(worker)]["state"] == "up"
    _, body = await submit(gateway, modules["primes"], b"0:100")
    obedient = await swarm.worker("obedient")
    status = await finished(gateway, body["job_id"])
    assert status["result"] == 25
    assert [share["node_id"] for share in status["nodes"]] == [peer_id(obedient)]
