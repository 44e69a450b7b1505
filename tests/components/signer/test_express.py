"""Hubs over libp2p with an express connection: what needs no signature there, and what does."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from swarm_hub.components.mesh import (
    MESH,
    Mesh,
    PeerDown,
    Proof,
    decode_messages,
    encode_message,
)
from swarm_hub.components.mesh.transports.libp2p.transport import Libp2pTransport
from swarm_hub.components.signer import SIGNER
from swarm_hub.components.telemetry import TELEMETRY
from swarm_hub.helpers.signing_keys import KeyFiles
from swarm_hub.models import messages
from tests.conftest import RunningHub, Swarm, free_port, until
from tests.helpers.envelopes import met, peer_id, refused
from tests.helpers.rest import call, finished, submit

Modules = dict[str, bytes]
_LIBP2P = "transport: libp2p, listen: [/ip4/127.0.0.1/tcp/0], mdns: false"


def mesh_of(hub: RunningHub) -> Mesh:
    return hub.hub.services[MESH]


class Heard:
    """What a hub is told, by kind: bare on an express connection, and in envelopes."""

    def __init__(self, hub: RunningHub) -> None:
        self.bare: Counter[str] = Counter()
        self.signed: list[list[str]] = []
        self.jobs_of_results: list[set[str]] = []
        self.proofs: set[bytes] = set()
        mesh, channel = mesh_of(hub), hub.hub.services[SIGNER]
        self._take, self._on_proven = channel._on_envelope, channel._on_proven
        mesh.on("envelope", self._on_envelope)
        mesh.take_proven(channel._proven, self._bare)

    def _on_envelope(self, peer: str, fields: Mapping[str, Any]) -> None:
        found = decode_messages(fields["b"])
        self.signed.append([kind for kind, _ in found])
        jobs = {each["id"].split(".")[0] for kind, each in found if kind == messages.RESULT}
        self.jobs_of_results += [jobs] if jobs else []
        self._take(peer, fields)

    def _bare(self, peer: str, proof: Proof, found: list[Any]) -> None:
        self.bare.update(kind for kind, _ in found)
        self.proofs.add(proof.public_key)
        self._on_proven(peer, proof, found)

    def count_signed(self, kind: str) -> int:
        return sum(kinds.count(kind) for kinds in self.signed)


async def pair(
    swarm: Swarm, *, express: Sequence[bool] = (True, True), receipts: str = "redundant"
) -> tuple[RunningHub, RunningHub]:
    """Start a gateway and a worker over libp2p."""
    port = free_port()
    texts = [f"mesh: {{{_LIBP2P}, express: {str(each).lower()}" for each in express]
    gateway = await swarm.start(
        "gateway",
        f"gateway: {{admission: open, receipts: {receipts}}}\napi: {{port: {port}}}\n"
        f"{texts[0]}, bulk: /ip4/127.0.0.1/tcp/0}}\n",
        port,
    )
    mesh = mesh_of(gateway)

    async def addresses() -> tuple[str, ...]:
        return mesh.addresses()

    address = (await until(addresses, bool))[0]
    _, key = swarm.keys("gateway")
    worker = await swarm.start(
        "worker",
        "worker: {charging_only: false, min_battery: 0}\n"
        f"signer: {{trust: ['{key}']}}\n{texts[1]}, bootnodes: [{address}]}}\n",
    )
    await met(gateway, peer_id(worker))
    await met(worker, peer_id(gateway))
    if all(express):
        await on_express(gateway, worker)
    return gateway, worker


async def on_express(gateway: RunningHub, worker: RunningHub) -> None:
    async def both() -> bool:
        return all(
            mesh_of(hub).is_express(peer_id(other))
            and mesh_of(hub).express.vouches(peer_id(other), hub.hub.services[SIGNER].public_key)
            for hub, other in ((gateway, worker), (worker, gateway))
        )

    await until(both, bool)


async def test_a_job_needs_no_signature_there(swarm: Swarm, modules: Modules) -> None:
    gateway, worker = await pair(swarm)
    at_gateway, at_worker = Heard(gateway), Heard(worker)
    _, body = await submit(gateway, modules["primes"], b"0:400", {"shard_size": 100})
    assert (await finished(gateway, body["job_id"]))["result"] == 78

    async def all_of_it() -> bool:
        return at_gateway.bare[messages.RESULT] == 4 and bool(at_worker.bare[messages.RESULT_ACK])

    await until(all_of_it, bool)
    assert at_worker.bare[messages.ASSIGN] >= 1
    assert at_gateway.proofs == {worker.hub.services[SIGNER].public_key}
    assert at_gateway.count_signed(messages.RESULT) == 0
    assert at_worker.count_signed(messages.ASSIGN) == 0
    _, page = await call(gateway, "GET", f"/jobs/{body['job_id']}/receipts")
    assert page["receipts"] == []
    # Its owner is told.
    status = await gateway.hub.control.run({"command": "status"})
    assert [each["express"] for each in status["peers"]] == [True]


@pytest.mark.parametrize("express", [(True, True), (False, True)])
async def test_gossip_is_for_those_without_a_connection(
    swarm: Swarm, express: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway that has said no to one hears of its worker soon as well."""
    gossiped: list[str] = []
    publish = Libp2pTransport.publish

    async def counted(transport: Libp2pTransport, topic: str, payload: bytes) -> None:
        gossiped.append(topic)
        await publish(transport, topic, payload)

    monkeypatch.setattr(Libp2pTransport, "publish", counted)
    gateway, worker = await pair(swarm, express=express)
    telemetry = gateway.hub.services[TELEMETRY]

    async def measured() -> object:
        return telemetry.of(peer_id(worker)).cpu_percent

    await until(measured, lambda found: found is not None)
    assert bool(gossiped) is not all(express)


@pytest.mark.parametrize("express", [(True, False), (False, True), (False, False)])
async def test_with_express_off_on_one_side_all_is_signed(
    swarm: Swarm, modules: Modules, express: tuple[bool, bool]
) -> None:
    gateway, worker = await pair(swarm, express=express)
    at_gateway, at_worker = Heard(gateway), Heard(worker)
    _, body = await submit(gateway, modules["primes"], b"0:400", {"shard_size": 100})
    assert (await finished(gateway, body["job_id"]))["result"] == 78
    assert at_gateway.count_signed(messages.RESULT) == 4
    assert not at_gateway.bare
    assert not at_worker.bare
    assert not mesh_of(gateway).is_express(peer_id(worker))


async def test_results_of_which_receipts_are_kept_are_signed_apart(
    swarm: Swarm, modules: Modules
) -> None:
    gateway, _ = await pair(swarm, receipts="all")
    at_gateway = Heard(gateway)
    jobs = [
        (await submit(gateway, modules["primes"], b"0:400", {"shard_size": 100, **spec}))[1]
        for spec in ({}, {"limits": {"wall_time": 20}})
    ]
    for job in jobs:
        assert (await finished(gateway, job["job_id"]))["result"] == 78
        _, page = await call(gateway, "GET", f"/jobs/{job['job_id']}/receipts")
        assert len(page["results"]) == 4
    assert at_gateway.bare[messages.RESULT] == 0
    assert at_gateway.count_signed(messages.RESULT) == 8
    # A receipt holds nothing of another job.
    assert all(len(jobs_in) == 1 for jobs_in in at_gateway.jobs_of_results)


async def test_an_unsigned_result_of_which_a_receipt_is_kept_does_not_count(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarm_hub.components.worker.delivery._RESEND_FIRST_S", 0.2)
    gateway, worker = await pair(swarm, receipts="all")
    channel = worker.hub.services[SIGNER]
    send = channel.send

    def unsigned(
        peer: str, kind: str, fields: Any, *, within_s: float = 0.0, apart: str | None = None
    ) -> None:
        # Only what is said for the first time, as by a worker that does not heed `receipt`.
        send(peer, kind, fields, within_s=within_s, apart=apart if apart == "again" else None)

    def signed_at_last(
        peer: str, kind: str, fields: Any, *, within_s: float = 0.0, apart: str | None = None
    ) -> None:
        send(peer, kind, fields, within_s=within_s, apart=apart)

    monkeypatch.setattr(channel, "send", unsigned)
    at_gateway = Heard(gateway)
    _, kept = await submit(gateway, modules["primes"], b"0:400", {"shard_size": 400})

    async def unsigned_result() -> int:
        return at_gateway.bare[messages.RESULT]

    await until(unsigned_result, bool)
    _, status = await call(gateway, "GET", f"/jobs/{kept['job_id']}")
    assert status["state"] == "running"
    monkeypatch.setattr(channel, "send", signed_at_last)
    assert (await finished(gateway, kept["job_id"]))["result"] == 78
    assert at_gateway.count_signed(messages.RESULT) >= 1
    _, page = await call(gateway, "GET", f"/jobs/{kept['job_id']}/receipts")
    assert len(page["results"]) == 1


async def test_a_bare_assignment_on_the_stream_stays_unknown(
    swarm: Swarm, modules: Modules
) -> None:
    gateway, worker = await pair(swarm, express=(False, True))
    at_worker = Heard(worker)
    mesh, here = mesh_of(gateway), peer_id(worker)
    seen: list[str] = []
    mesh_of(worker).on("heartbeat", lambda _peer, fields: seen.append("beat"))
    for kind in (messages.ASSIGN, messages.CANCEL, messages.DRAIN, messages.RESULT_ACK):
        mesh.send(here, kind, {"ids": ["a.0.1"], "shards": [], "reason": "x", "node": here})
    mesh.send(here, "heartbeat", {"t": 1.0})

    async def heard() -> list[str]:
        return seen

    await until(heard, bool)
    assert not at_worker.bare
    assert mesh_of(worker)._peers[peer_id(gateway)].faults == 0


@pytest.mark.parametrize("kind", [messages.ROTATED, messages.REVOKED, "ticket", "express_offer"])
async def test_what_is_always_signed_does_not_count_bare_on_the_connection(
    swarm: Swarm, kind: str
) -> None:
    gateway, worker = await pair(swarm)
    at_worker = Heard(worker)
    mesh_of(gateway).send_proven(
        peer_id(worker), [encode_message(kind, {"keys": [], "rotations": []})]
    )
    mesh_of(gateway).send_proven(peer_id(worker), [encode_message(messages.CANCEL, {"ids": []})])

    async def heard() -> int:
        return at_worker.bare[messages.CANCEL]

    await until(heard, bool)
    assert at_worker.bare[kind] == 0
    assert mesh_of(worker).is_express(peer_id(gateway))


async def test_a_ban_ends_it_at_once(swarm: Swarm) -> None:
    gateway, worker = await pair(swarm)
    mesh, theirs = mesh_of(gateway), peer_id(worker)
    (link,) = mesh.express._links.values()
    await mesh.ban(theirs, "a test")
    assert link._outgoing is link._incoming is None
    assert not mesh.is_express(theirs)
    with pytest.raises(Exception, match=r"no express connection|not connected"):
        mesh.send_proven(theirs, [encode_message(messages.CANCEL, {"ids": []})])


async def test_the_word_of_a_revoked_key_counts_no_more(swarm: Swarm) -> None:
    gateway, worker = await pair(swarm)
    downs: list[str] = []
    worker.hub.bus.listen(PeerDown, lambda down: downs.append(down.reason))
    key = gateway.hub.services[SIGNER]._own.kid
    revocations = worker.hub.services[SIGNER]._revocations
    send = mesh_of(gateway).send_proven
    from swarm_hub.models.rotation import Revocation

    revocations._known[key] = Revocation(key, 0.0, "stolen")
    send(peer_id(worker), [encode_message(messages.CANCEL, {"ids": []})])

    async def told() -> int:
        return refused(worker, "revoked")

    await until(told, bool)
    assert not mesh_of(worker).is_banned(peer_id(gateway))
    del revocations._known[key]
    revocations.add([Revocation(key, 0.0, "stolen")])

    async def parted() -> list[str]:
        return downs

    await until(parted, bool)
    assert "revoked" in downs[0]


@pytest.mark.parametrize("who", ["gateway", "worker"])
async def test_a_rotation_makes_a_new_connection_under_the_new_key(
    swarm: Swarm, modules: Modules, who: str
) -> None:
    gateway, worker = await pair(swarm)
    hub = gateway if who == "gateway" else worker
    downs: list[PeerDown] = []
    for each in (gateway, worker):
        each.hub.bus.listen(PeerDown, downs.append)
    before = hub.hub.services[SIGNER].public_key
    _, running = await submit(gateway, modules["primes"], b"0:40000", {"shard_size": 2000})
    KeyFiles(hub.hub.storage_path()).rotate(peer_id(hub), 3600, hub.clock.time())
    await hub.hub.control.run({"command": "reload_keys"})
    assert hub.hub.services[SIGNER].public_key != before
    await on_express(gateway, worker)
    assert (await finished(gateway, running["job_id"]))["result"] == 4203
    _, after = await submit(gateway, modules["primes"], b"0:400", {"shard_size": 100})
    at = Heard(worker if who == "gateway" else gateway)
    assert (await finished(gateway, after["job_id"]))["result"] == 78
    await on_express(gateway, worker)
    assert downs == []
    assert before not in at.proofs


async def test_a_lost_connection_ends_the_session_and_the_job_goes_on(
    swarm: Swarm, modules: Modules
) -> None:
    gateway, worker = await pair(swarm)
    downs: list[PeerDown] = []
    gateway.hub.bus.listen(PeerDown, downs.append)
    _, running = await submit(gateway, modules["primes"], b"0:40000", {"shard_size": 1000})
    (link,) = mesh_of(worker).express._links.values()
    assert link._transport is not None
    link._transport.abort()
    assert (await finished(gateway, running["job_id"]))["result"] == 4203

    async def parted() -> list[PeerDown]:
        return downs

    await until(parted, bool)
    await on_express(gateway, worker)
    assert len(downs) == 1


async def test_a_hub_that_stops_loses_nothing_that_it_said(swarm: Swarm, modules: Modules) -> None:
    gateway, worker = await pair(swarm)
    heard = Heard(gateway)
    channel = worker.hub.services[SIGNER]
    for _ in range(200):
        channel.send(peer_id(gateway), messages.ACK, {"ids": ["no.0.1"]})
        await asyncio.sleep(0)
    await swarm.stop(worker)

    async def said() -> int:
        return heard.bare[messages.ACK] + heard.count_signed(messages.ACK)

    await until(said, lambda count: count == 200)
