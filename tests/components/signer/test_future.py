"""A hub and one of a later version: what it adds is ignored, what must not be is refused alone."""

import json
import logging
from typing import Any

import pytest

from swarm_hub.client import SwarmClient
from swarm_hub.components.gateway.submission import job_plan, module_call
from swarm_hub.components.mesh import MESH, decode_messages
from swarm_hub.components.signer import SIGNER
from swarm_hub.components.signer.greeting import SignedGreeter
from swarm_hub.components.worker import intake
from swarm_hub.const import SIGNER_KEY_FILE, STORAGE_DIR
from swarm_hub.exceptions import MeshError, SignatureRefusedError
from swarm_hub.models import messages
from swarm_hub.models.call import ModuleCall, Script
from swarm_hub.models.envelope import TYPE_HELLO, canonical, sign
from swarm_hub.models.job import JobLimits, JobSpec, Split
from swarm_hub.storage import StoreSpace
from swarm_hub.storage.queries import inbox
from swarm_hub.storage.queries.inbox import InboxEntry
from swarm_hub.util.ed25519 import SigningKey
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.envelopes import Wire, key_of, nodes, pair, peer_id, state_is
from tests.helpers.later import ADDED, speak_later
from tests.helpers.rest import call, finished, submit
from tests.helpers.wasm_bytes import custom

Modules = dict[str, bytes]

# Both hubs share a loop: what holds it up for long on a busy machine is no silence of a peer.
BEAT = "mesh: {{transport: loopback, heartbeat: 1{}}}\n"
LARGE = b"x" * 300_000
# Faults of a peer that are told in the log.
FAULTS = ("malformed", "before it was admitted", "wrong messages", "Refused")


def key_named(swarm: Swarm, name: str) -> dict[str, SigningKey]:
    """Return the signing key of a hub that may not have started yet, by its peer id."""
    own, _ = swarm.keys(name)
    return {own: SigningKey((swarm._folder / name / STORAGE_DIR / SIGNER_KEY_FILE).read_bytes())}


@pytest.mark.parametrize("later", [("gateway",), ("worker",), ("gateway", "worker")])
async def test_hubs_of_this_version_and_of_a_later_one_work_together(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, later: tuple[str, ...],
) -> None:  # fmt: skip
    # Short shards are ACKed, too.
    monkeypatch.setattr(intake, "_WRITE_DOWN_AFTER_S", 0.0)
    keys: dict[str, SigningKey] = {}
    for name in later:
        keys |= key_named(swarm, name)
    spoken = speak_later(monkeypatch, keys)
    gateway = await swarm.gateway(extra="content:\n" + BEAT.format(""))
    boot = f", bootnodes: [/memory/0/p2p/{peer_id(gateway)}]"
    public_key = gateway.hub.services[SIGNER].public_key.hex()
    worker = await swarm.start(
        "worker",
        "worker: {charging_only: false, min_battery: 0}\n"
        f"signer: {{trust: ['{public_key}']}}\ncontent:\n" + BEAT.format(boot),
    )
    node_id = peer_id(worker)
    await state_is(gateway, node_id, "up")
    await every_message_is_said(gateway, worker, modules)
    # As the worker leaves it says so and gives back what it has not begun.
    await swarm.stop(worker)
    await state_is(gateway, node_id, "down")
    assert not [fault for fault in FAULTS if fault in caplog.text], caplog.text
    theirs = {
        "gateway": {
            "assign",
            "result_ack",
            "cancel",
            "preempt",
            "revoked",
            "need",
            "blob",
            "drain",
        },
        "worker": {"ack", "nack", "result", "need", "blob", "drain", "gossip"},
    }
    both = {"hello", "heartbeat", "credit", "envelope", "have", "reply"}
    assert spoken.keys() >= both.union(*(theirs[name] for name in later)), spoken


async def every_message_is_said(gateway: RunningHub, worker: RunningHub, modules: Modules) -> None:
    """Have both say all they can, and see that each word is understood."""
    node_id = peer_id(worker)
    script = ("echo.bf", b",[.,]")
    async with SwarmClient(gateway.url, gateway.token) as client:
        given = {"script": script, "deterministic": True, "limits": {"fuel": 10**9}}
        lines = b"a\nb\nc\n"
        found = await client.map(
            modules["brainfuck"], lines, shard_size=1, env={"NAME": "text"}, **given
        )
        assert found == lines
        # Many small ones, after which more is given out than fits the slots at once.
        primes = modules["primes"]
        assert await client.map(primes, range(1000), shard_size=10, reduce="sum") == 168
        # Too large to travel along, both ways.
        assert await client.map(modules["cat"], LARGE, split="files", reduce="concat") == LARGE

    async def node() -> dict[str, Any]:
        return (await nodes(gateway))[node_id]

    for one, other in ((gateway, worker), (worker, gateway)):
        with pytest.raises(MeshError, match="not here"):
            await one.hub.services[MESH].request(peer_id(other), "have", {"sha": "0" * 64})
    await until(node, lambda each: each["rtt_ms"] is not None)
    await until(node, lambda each: each["telemetry"]["load_1m"] is not None)
    worker.hub.bus.fire(StoreSpace(full="its disk is full"))
    await until(node, lambda each: each["refuses"] == "its disk is full")
    worker.hub.bus.fire(StoreSpace(full=None, spent=False))
    await until(node, lambda each: each["refuses"] is None)
    gateway.hub.services[SIGNER].send(node_id, messages.REVOKED, {"keys": [["0" * 16, 1.0, ""]]})
    gateway.hub.services[SIGNER].send(node_id, messages.PREEMPT, {"ids": ["nobody's"]})
    for is_drained in (False, True):
        # What does not fit the slots waits on the node; of a module that it has not run one does,
        # while there is no other job.
        module = modules["spin"] + custom(b"number", bytes([is_drained]))
        _, body = await submit(gateway, module, b"0:100000", {"shard_size": 5000})
        await until(node, lambda each: each["assignments"] > each["slots"])
        if is_drained:
            assert (await call(gateway, "POST", f"/nodes/{node_id}/drain", json={}))[0] == 200
            await until(node, lambda each: each["assignments"] <= each["slots"])
        assert (await call(gateway, "DELETE", f"/jobs/{body['job_id']}"))[0] == 200
        await until(node, lambda each: each["assignments"] == 0)
    assert (await call(gateway, "POST", f"/nodes/{node_id}/undrain", json={}))[0] == 200
    _, body = await submit(gateway, modules["primes"], b"0:100")
    assert (await finished(gateway, body["job_id"]))["result"] == 25


# What a call needs


@pytest.fixture
def needing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the gateway be of a later version: jobs of priority 7 need what no worker knows."""
    needs_of = module_call.needs_of

    def later(spec: JobSpec) -> tuple[str, ...]:
        return (*needs_of(spec), "teleport") if spec.priority == 7 else needs_of(spec)

    for module in (module_call, job_plan):
        monkeypatch.setattr(module, "needs_of", later)


@pytest.mark.parametrize(
    ("asked", "needs"),
    [
        ({}, ()),
        ({"limits": JobLimits(memory=1, wall_time=1.0, output=1), "args": ("x",)}, ()),
        ({"limits": JobLimits(fuel=1)}, ("fuel",)),
        ({"script": Script("a", "0" * 64, 1), "deterministic": True}, ("deterministic", "script")),
    ],
)
def test_only_what_must_not_be_ignored_is_needed_by_name(
    asked: dict[str, Any], needs: tuple[str, ...]
) -> None:
    spec = JobSpec("range", "map", Split.RANGE, 0, "sum", **asked)
    assert module_call.needs_of(spec) == needs


async def waits(gateway: RunningHub, job_id: str) -> str | None:
    _, status = await call(gateway, "GET", f"/jobs/{job_id}")
    told: str | None = status["waits"]
    return told


async def other_jobs_run(gateway: RunningHub, modules: Modules) -> None:
    _, body = await submit(gateway, modules["primes"], b"0:1000", {"shard_size": 100})
    assert (await finished(gateway, body["job_id"]))["result"] == 168


@pytest.mark.usefixtures("needing")
async def test_a_job_waits_for_a_worker_that_knows_what_it_needs_and_says_so(
    swarm: Swarm, modules: Modules
) -> None:
    gateway, _worker = await pair(swarm)
    wire = Wire(gateway)
    _, body = await submit(gateway, modules["primes"], b"0:100", {"priority": 7})
    await other_jobs_run(gateway, modules)
    assert await waits(gateway, body["job_id"]) == "1 node: 1 without the feature teleport"
    assert not [each for each in needs_sent(wire) if "teleport" in each]


@pytest.mark.usefixtures("needing")
async def test_a_worker_that_promised_too_much_is_asked_once_and_then_no_more(
    swarm: Swarm, modules: Modules, monkeypatch: pytest.MonkeyPatch
) -> None:
    promised = frozenset({"deterministic", "fuel", "script", "teleport"})
    monkeypatch.setattr("swarm_hub.components.worker.FEATURES", promised)
    gateway, worker = await pair(swarm)
    wire, back = Wire(gateway), Wire(worker)
    _, body = await submit(gateway, modules["primes"], b"0:100", {"priority": 7, "shard_size": 1})

    async def told() -> str | None:
        return await waits(gateway, body["job_id"])

    await until(told, lambda text: text == "1 node: 1 without the feature teleport")
    asked = needs_sent(wire)
    assert set(asked) == {("teleport",)}
    assert back.count(messages.ACK) == back.count(messages.RESULT) == 0
    await other_jobs_run(gateway, modules)
    assert [each for each in needs_sent(wire) if each] == asked
    _, story = await call(gateway, "GET", f"/jobs/{body['job_id']}/story")
    assert "this worker does not know what the call needs: teleport" in str(story)


def needs_sent(wire: Wire) -> list[tuple[str, ...]]:
    """Return what each `assign` said that its call needs."""
    return [tuple(each["call"].get("needs", ())) for each in said(wire, messages.ASSIGN)]


def said(wire: Wire, kind: str) -> list[dict[str, Any]]:
    """Return the messages of a kind that a hub sent."""
    return [
        dict(fields)
        for _, envelope in wire.sent
        for found, fields in decode_messages(envelope["b"])
        if found == kind
    ]


async def test_of_one_envelope_each_assignment_that_is_not_in_order_is_refused_by_itself(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    roomy = "worker: {slots: 3, charging_only: false, min_battery: 0}\n"
    worker = await swarm.worker("worker", extra=roomy)
    await state_is(gateway, peer_id(worker), "up")
    back, post = Wire(worker), gateway.hub.services[SIGNER]
    send, offered = post.send, []

    def spoil(to: str, kind: str, fields: Any, **within: Any) -> None:
        if kind != messages.ASSIGN or offered:
            send(to, kind, fields, **within)
            return
        offered.extend(shard[0] for shard in fields["shards"])
        call, (a, b, c, d, *others) = fields["call"], fields["shards"]
        for changed in (
            {"shards": [a], "call": {**call, "needs": ["fuel", "teleport"]}},
            {"shards": [b], "call": {name: call[name] for name in call if name != "entry"}},
            {"shards": [c[:2], [None, *c[1:]], 5, *others]},
            {"shards": "none"},
            {"shards": [d], "call": {**call, **ADDED}},
        ):
            send(to, kind, {**fields, **changed}, **within)

    post.send = spoil  # type: ignore[method-assign]
    _, body = await submit(gateway, modules["primes"], b"0:1000", {"shard_size": 100})
    status = await finished(gateway, body["job_id"])
    assert (status["state"], status["result"]) == ("completed", 168)
    refused = {
        each: (nack["reason"], nack.get("lacks"))
        for nack in said(back, messages.NACK)
        for each in nack["ids"]
    }
    a, b, c, *good = offered
    assert len(good) == 3
    assert refused == {
        a: ("this worker does not know what the call needs: teleport", ["teleport"]),
        b: ("assign: call: 'entry' is missing", None),
        c: ("assign: a shard: 'size_bytes' is missing", None),
    }
    results = {each["id"]: each["code"] for each in said(back, messages.RESULT)}
    assert results.items() >= dict.fromkeys(good, "ok").items()
    assert not results.keys() & {a, b, c}
    assert (await nodes(gateway))[peer_id(worker)]["state"] == "up"


async def test_of_one_envelope_a_result_that_can_t_be_read_is_a_failure_and_others_count(
    swarm: Swarm, modules: Modules
) -> None:
    gateway, worker = await pair(swarm)
    post, send = worker.hub.services[SIGNER], worker.hub.services[SIGNER].send
    spoilt: list[str] = []

    def spoil(to: str, kind: str, fields: Any, **within: Any) -> None:
        if kind == messages.RESULT and not spoilt:
            spoilt.append(fields["id"])
            fields = {name: fields[name] for name in fields if name != "wall_s"}
        send(to, kind, fields, **within)

    post.send = spoil  # type: ignore[method-assign]
    _, body = await submit(gateway, modules["primes"], b"0:1000", {"shard_size": 100})
    status = await finished(gateway, body["job_id"])
    assert (status["state"], status["result"]) == ("completed", 168)
    _, story = await call(gateway, "GET", f"/jobs/{body['job_id']}/story")
    failed = [event for event in story["events"] if event["event_type"] == "shard_failed"]
    assert [event["data"]["message"] for event in failed] == ["result: 'wall_s' is missing"]
    # It is not said again and again.
    wire = Wire(worker)
    await until(lambda: held_by(worker), lambda count: count == 0)
    assert wire.count(messages.RESULT) == 0


async def held_by(worker: RunningHub) -> int:
    return len(await worker.hub.store.read(inbox.undelivered))


async def test_what_a_later_version_accepted_is_not_run_by_this_one(swarm: Swarm) -> None:
    """Its worker was replaced by an older one, which finds the call in its inbox."""
    worker = await swarm.worker("worker")
    call = ModuleCall("0" * 64, "range", "map", needs=("teleport",)).to_plain()
    gateway_id, _ = swarm.keys("gateway")
    text = json.dumps({"call": call, "module_bytes": 1})
    entry = InboxEntry("J.0.1", gateway_id, text, "0" * 64, 3, b"0 1", 0.0, "")
    await worker.hub.store.commit([inbox.accept([entry])])
    await swarm.stop(worker)
    worker = await swarm.worker("worker")

    async def waiting() -> list[InboxEntry]:
        return await worker.hub.store.read(inbox.open_entries)

    await until(waiting, lambda entries: entries == [])
    assert await held_by(worker) == 0


# Fixed forms; those of envelopes, rotations, revocations and links are in their own tests.


async def test_a_hello_that_signs_more_than_it_should_is_refused(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    worker = await swarm.worker("worker", extra="")
    mesh = worker.hub.services[MESH]
    greeter = mesh._greeter
    assert isinstance(greeter, SignedGreeter)
    fields = greeter.compose(peer_id(gateway))
    theirs = gateway.hub.services[MESH]._greeter
    assert theirs is not None
    assert (await theirs.check(peer_id(worker), {**fields, **ADDED})).name == "worker"
    signed = {name: fields[name] for name in fields if name not in ("sig", "rotations")}
    forged = sign(key_of(worker), TYPE_HELLO, canonical({**signed, **ADDED}))
    with pytest.raises(SignatureRefusedError, match="signature of its hello is wrong"):
        await theirs.check(peer_id(worker), {**fields, **ADDED, "sig": forged})
    for name in ("name", "sig", "capabilities"):
        without = {each: fields[each] for each in fields if each != name}
        with pytest.raises(SignatureRefusedError, match=f"its hello lacks '{name}'"):
            await theirs.check(peer_id(worker), without)


# Bare messages, and kinds that nobody knows


async def test_kinds_of_a_later_version_are_ignored_and_noted(
    swarm: Swarm, modules: Modules, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "swarm_hub.components")
    gateway, worker = await pair(swarm)
    mesh, post = worker.hub.services[MESH], worker.hub.services[SIGNER]
    mesh.send(peer_id(gateway), "later_bare", ADDED)
    post.send(peer_id(gateway), "later_signed", ADDED)
    await other_jobs_run(gateway, modules)
    assert f"{peer_id(worker)} sent an unknown message later_bare" in caplog.text
    assert f"{peer_id(worker)} signed an unknown message later_signed" in caplog.text
    assert (await nodes(gateway))[peer_id(worker)]["state"] == "up"


@pytest.mark.parametrize(
    ("kind", "fields", "said_of_it"),
    [
        ("need", {}, "a malformed need: 'sha' is missing"),
        ("blob", {}, "a malformed blob: 'sha' is missing"),
        ("blob", {"sha": "0" * 64}, "a malformed blob: 'body' is missing"),
        ("heartbeat", {}, "a malformed heartbeat: 'echo' is missing"),
        ("ticket_refused", {}, "a malformed ticket_refused: 'id' is missing"),
        ("envelope", {"h": b"", "s": b""}, "a malformed envelope: 'b' is missing"),
    ],
)
async def test_what_a_bare_message_lacks_is_named(
    swarm: Swarm, caplog: pytest.LogCaptureFixture, kind: str, fields: dict[str, Any],
    said_of_it: str,
) -> None:  # fmt: skip
    gateway, worker = await pair(swarm)
    worker.hub.services[MESH].send(peer_id(gateway), kind, fields)

    async def told() -> bool:
        return said_of_it in caplog.text

    await until(told, bool)
    assert (await nodes(gateway))[peer_id(worker)]["state"] == "up"
