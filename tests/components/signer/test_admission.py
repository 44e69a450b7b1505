"""Who becomes a node of a gateway: by invitation, by hand, or whoever comes."""

import asyncio
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from click.testing import CliRunner

from swarm_hub.cli.join import join
from swarm_hub.components.mesh import MESH, encode_message, join_messages
from swarm_hub.components.mesh.join_link import parse_join_link
from swarm_hub.models import messages
from swarm_hub.models.envelope import key_id, seal
from swarm_hub.storage.queries.admission import PENDING_MAX
from tests.conftest import RunningHub, Swarm, until
from tests.helpers.envelopes import nodes, peer_id, state_is
from tests.helpers.newcomer import Newcomer
from tests.helpers.rest import call, finished, submit

Modules = dict[str, bytes]
# The hubs here are joined by loopback, which has no address to dial.
ADDRESS = "/ip4/192.0.2.1/tcp/4001"


async def invite(gateway: RunningHub, expires_s: float = 3600) -> dict[str, Any]:
    code, body = await call(
        gateway, "POST", "/invites", json={"expires_s": expires_s, "addresses": [ADDRESS]}
    )
    assert code == 201, body
    return dict(body)


async def invited(swarm: Swarm, gateway: RunningHub, name: str, link: str) -> RunningHub:
    """Join with a link, then run the worker with the configuration of all hubs here."""
    folder = gateway.folder.parent / name
    done = await asyncio.to_thread(CliRunner().invoke, join, [link, "-c", str(folder), "--offline"])
    assert done.exit_code == 0, done.output
    return await swarm.worker(name)


async def invites(gateway: RunningHub) -> list[dict[str, Any]]:
    _, body = await call(gateway, "GET", "/invites")
    return list(body["invites"])


async def told(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Wait until a worker's log says why it is not wanted."""

    async def said() -> bool:
        return any(
            text in record.getMessage() and "the peer said" in record.getMessage()
            for record in caplog.records
        )

    await until(said, bool)


@pytest.fixture(autouse=True)
def at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")


async def test_an_invited_worker_is_admitted_and_works(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway(admission="token")
    made = await invite(gateway)
    worker = await invited(swarm, gateway, "phone", made["link"])
    await state_is(gateway, peer_id(worker), "up")
    _, body = await submit(gateway, modules["primes"], b"0:100")
    assert (await finished(gateway, body["job_id"]))["result"] == 25
    (used,) = await invites(gateway)
    assert (used["state"], used["used_by"]) == ("used", peer_id(worker))


async def test_token_is_the_policy_of_a_gateway_that_says_nothing(swarm: Swarm) -> None:
    gateway = await swarm.start("gateway", "gateway:\n")
    assert "wants an invitation" in await Newcomer(gateway, 1).refused()


async def test_a_worker_without_an_invitation_is_told_both_ways_in(
    swarm: Swarm, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await swarm.gateway(admission="token")
    worker = await swarm.worker("stranger")
    await told(caplog, "swarm-hub join LINK")
    assert await nodes(gateway) == {}
    # By its peer id it can be approved all the same, also though it was never listed.
    code, _ = await call(gateway, "POST", f"/nodes/{peer_id(worker)}/approve")
    assert code == 200
    await state_is(gateway, peer_id(worker), "up")


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("a\0b", "a\N{REPLACEMENT CHARACTER}b"),
        ("\0" * 100, "\N{REPLACEMENT CHARACTER}" * 64),
        ("n" * 63 + "\0\0", "n" * 63 + "\N{REPLACEMENT CHARACTER}"),
        # It can be stored; whoever shows it to a person makes it visible.
        ("\x1b[2Jclear\x7f", "\x1b[2Jclear\x7f"),
    ],
)
async def test_what_can_not_be_stored_of_a_name_is_replaced_and_its_node_admitted(
    swarm: Swarm, name: str, kept: str, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await swarm.gateway()
    peer = Newcomer(gateway, 1)
    peer.name = name
    await peer.admitted(gateway)
    assert gateway.hub.services[MESH].peers()[peer.peer_id].name == kept
    await state_is(gateway, peer.peer_id, "up")
    assert (await nodes(gateway))[peer.peer_id]["name"] == kept
    await peer.leave(gateway)
    # And from the store.
    await swarm.stop(gateway)
    gateway = await swarm.gateway()
    assert (await nodes(gateway))[peer.peer_id]["name"] == kept


async def test_the_same_node_comes_back_also_to_a_restarted_gateway(swarm: Swarm) -> None:
    gateway = await swarm.gateway(admission="token")
    worker = await invited(swarm, gateway, "phone", (await invite(gateway))["link"])
    await state_is(gateway, peer_id(worker), "up")
    await swarm.stop(worker)
    await swarm.stop(gateway)
    gateway = await swarm.gateway(admission="token")
    worker = await swarm.worker("phone")
    await state_is(gateway, peer_id(worker), "up")


async def test_another_node_with_the_same_token_is_refused(
    swarm: Swarm, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await swarm.gateway(admission="token")
    link = (await invite(gateway))["link"]
    first = await invited(swarm, gateway, "phone", link)
    await state_is(gateway, peer_id(first), "up")
    await invited(swarm, gateway, "thief", link)
    await told(caplog, "was used by another device")
    assert set(await nodes(gateway)) == {peer_id(first)}


async def test_of_two_nodes_with_one_token_at_once_one_is_admitted(swarm: Swarm) -> None:
    gateway = await swarm.gateway(admission="token")
    token = parse_join_link((await invite(gateway))["link"]).token
    many = [Newcomer(gateway, number) for number in range(1, 9)]
    for each in many:
        await each.dial()
    for each in many:
        each.say("hello", each.hello(token=token))

    async def decided() -> tuple[int, int]:
        return len(gateway.hub.services[MESH].peers()), sum(bool(each.ended) for each in many)

    assert await until(decided, lambda found: sum(found) == len(many)) == (1, len(many) - 1)
    for each in many:
        await each.transport.stop()


async def test_an_expired_or_revoked_or_made_up_token_is_refused(swarm: Swarm) -> None:
    gateway = await swarm.gateway(admission="token")
    late = parse_join_link((await invite(gateway, expires_s=60))["link"]).token
    gone = await invite(gateway)
    assert (await call(gateway, "DELETE", f"/invites/{gone['id']}"))[0] == 200
    gateway.clock.offset_s += 61
    assert "has expired" in await Newcomer(gateway, 1).refused(token=late)
    revoked = parse_join_link(gone["link"]).token
    assert "knows no such invitation" in await Newcomer(gateway, 2).refused(token=revoked)
    for token in (b"x" * 16, b"x" * 65, b"", "text", None, [1]):
        reason = await Newcomer(gateway, 3).refused(token=token)
        assert "invitation" in reason
    assert await nodes(gateway) == {}


async def test_the_store_holds_no_token(swarm: Swarm) -> None:
    gateway = await swarm.gateway(admission="token")
    link = parse_join_link((await invite(gateway))["link"])
    with closing(sqlite3.connect(gateway.folder / "swarm_hub.db")) as database:
        rows = database.execute("SELECT * FROM invites").fetchall()
    assert len(rows) == 1
    assert link.token.hex() not in repr(rows)
    assert link.token not in (gateway.folder / "swarm_hub.db-wal").read_bytes()


async def test_a_node_waits_for_approval_and_is_admitted_at_its_next_try(
    swarm: Swarm, modules: Modules, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await swarm.gateway(admission="manual")
    worker = await swarm.worker("kitchen-tablet")
    await state_is(gateway, peer_id(worker), "pending")
    await told(
        caplog,
        f"waits for approval; on the gateway: swarm-hub node approve {peer_id(worker)}",
    )
    node = (await nodes(gateway))[peer_id(worker)]
    assert (node["name"], node["slots"]) == ("kitchen-tablet", None)
    _, body = await submit(gateway, modules["primes"], b"0:100")
    assert (await call(gateway, "POST", f"/nodes/{peer_id(worker)}/approve"))[0] == 200
    async with asyncio.timeout(30):
        assert (await finished(gateway, body["job_id"]))["result"] == 25
    # What was approved stays so.
    await swarm.stop(gateway)
    gateway = await swarm.gateway(admission="manual")
    await state_is(gateway, peer_id(worker), "up")


async def test_an_invitation_is_an_approval_too(swarm: Swarm) -> None:
    gateway = await swarm.gateway(admission="manual")
    worker = await invited(swarm, gateway, "phone", (await invite(gateway))["link"])
    await state_is(gateway, peer_id(worker), "up")


async def test_a_node_that_waits_is_refused_quietly_after_the_first_time(
    swarm: Swarm, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await swarm.gateway(admission="manual")
    for _ in range(5):
        assert "waits for approval" in await Newcomer(gateway, 1).refused()
    said = [each for each in caplog.records if each.getMessage().startswith("Refused")]
    assert len(said) == 1


async def test_nothing_of_a_node_that_waits_is_acted_upon(swarm: Swarm) -> None:
    gateway = await swarm.gateway(admission="manual")
    newcomer = Newcomer(gateway, 1)
    await newcomer.dial()
    envelope = seal(
        newcomer.key, kid=key_id(newcomer.key.public_key), iss=newcomer.peer_id,
        aud=peer_id(gateway), now=int(gateway.clock.time()), ttl_s=60, jti=bytes(16), body=b"\x80",
    )  # fmt: skip
    # In one frame with the hello, so that all of it is there while the store is asked.
    newcomer.say("hello", newcomer.hello())
    newcomer.say("envelope", {"h": envelope.header, "s": bytes(64), "b": envelope.body})
    newcomer.say("need", {"sha": "0" * 64})

    async def ended() -> list[str]:
        return newcomer.ended

    assert "waits for approval" in (await until(ended, bool))[0]
    # A forged signature would have banned it, had anybody looked.
    assert (await nodes(gateway))[newcomer.peer_id]["state"] == "pending"
    await newcomer.transport.stop()


async def test_what_a_node_says_while_it_is_decided_upon_is_heard_afterwards(
    swarm: Swarm,
) -> None:
    gateway = await swarm.gateway(admission="token")
    token = parse_join_link((await invite(gateway))["link"]).token
    newcomer = Newcomer(gateway, 1)
    await newcomer.dial()
    newcomer.say("hello", newcomer.hello(token=token))
    sealed = seal(
        newcomer.key, kid=key_id(newcomer.key.public_key), iss=newcomer.peer_id,
        aud=peer_id(gateway), now=int(gateway.clock.time()), ttl_s=60, jti=bytes(16),
        body=_drain("not charging"),
    )  # fmt: skip
    newcomer.say("envelope", {"h": sealed.header, "s": sealed.signature, "b": sealed.body})

    async def refuses() -> Any:
        return (await nodes(gateway)).get(newcomer.peer_id, {}).get("refuses")

    assert await until(refuses, bool) == "not charging"
    await newcomer.transport.stop()


def _drain(reason: str) -> bytes:
    return join_messages([encode_message(messages.DRAIN, {"reason": reason})])


async def test_those_who_wait_are_bounded_and_the_newest_stay(swarm: Swarm) -> None:
    gateway = await swarm.gateway(admission="manual")
    last = ""
    for number in range(1, PENDING_MAX + 8):
        gateway.clock.offset_s += 1
        newcomer = Newcomer(gateway, number)
        assert "waits for approval" in await newcomer.refused()
        last = newcomer.peer_id
    known = await nodes(gateway)
    assert len(known) == PENDING_MAX
    assert last in known
    # One that does not come again is forgotten after a day.
    gateway.clock.offset_s += 90_000
    await Newcomer(gateway, 1000).refused()
    assert len(await nodes(gateway)) == 1


async def test_a_banned_node_is_not_approved_back_in(swarm: Swarm) -> None:
    gateway = await swarm.gateway(admission="manual")
    worker = await swarm.worker("worker")
    await state_is(gateway, peer_id(worker), "pending")
    await call(gateway, "POST", f"/nodes/{peer_id(worker)}/ban")
    await call(gateway, "POST", f"/nodes/{peer_id(worker)}/approve")
    await state_is(gateway, peer_id(worker), "banned")


async def test_approving_what_is_no_node_is_404(swarm: Swarm) -> None:
    gateway = await swarm.gateway(admission="manual")
    code, body = await call(gateway, "POST", "/nodes/nobody/approve")
    assert (code, body["code"]) == (404, "unknown_node")


async def test_nodes_of_an_open_gateway_are_asked_when_it_is_open_no_more(swarm: Swarm) -> None:
    gateway = await swarm.gateway(admission="open")
    worker = await swarm.worker("worker")
    await state_is(gateway, peer_id(worker), "up")
    await swarm.stop(gateway)
    gateway = await swarm.gateway(admission="manual")
    await state_is(gateway, peer_id(worker), "pending")


async def test_a_trusted_gateway_that_is_a_worker_too_serves_and_does_not_join(
    swarm: Swarm, modules: Modules
) -> None:
    """Two devices that are both: each obeys the other, and only one admits the other."""
    (first_id, first_key), (_, second_key) = swarm.keys("first"), swarm.keys("second")
    both = "worker: {charging_only: false, min_battery: 0}\n"
    first = await swarm.gateway(
        "first", both + f"signer: {{trust: ['{second_key}']}}\n", admission="open"
    )
    second = await swarm.gateway(
        "second",
        f"{both}signer: {{trust: ['{first_key}']}}\n"
        f"mesh: {{transport: loopback, bootnodes: [/memory/0/p2p/{first_id}]}}\n",
        admission="token",
    )
    await state_is(first, peer_id(second), "up")
    assert first_id not in {k for k, v in (await nodes(second)).items() if v["state"] == "up"}
    _, body = await submit(second, modules["primes"], b"0:100")
    status = await finished(second, body["job_id"])
    assert status["result"] == 25
    assert [share["node_id"] for share in status["nodes"]] == [peer_id(second)]


async def test_to_call_oneself_a_gateway_is_no_way_in(swarm: Swarm) -> None:
    gateway = await swarm.gateway(extra="worker: {charging_only: false}\n", admission="token")
    stranger = Newcomer(gateway, 1)
    stranger.capabilities = {"worker": {"slots": 1}, "gateway": {}}
    assert "wants an invitation" in await stranger.refused()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ({"expires_s": 1}, "invalid_expiry"),
        ({"expires_s": 31 * 86_400}, "invalid_expiry"),
        ({"expires_s": True}, "invalid_request"),
        ({"expires_s": "1h"}, "invalid_request"),
        ({"days": 1}, "invalid_request"),
        ([], "invalid_request"),
        ({"addresses": "x"}, "invalid_request"),
        ({"addresses": ["/ip4/1.2.3.4/udp/1"]}, "invalid_address"),
        ({"addresses": ["http://169.254.169.254/"]}, "invalid_address"),
        ({"addresses": [f"{ADDRESS}/p2p/12D3KooWNobody"]}, "invalid_address"),
    ],
)
async def test_an_invitation_that_makes_no_sense_is_422(
    swarm: Swarm, content: Any, code: str
) -> None:
    gateway = await swarm.gateway(admission="token")
    status, body = await call(gateway, "POST", "/invites", json=content)
    assert (status, body["code"]) == (422, code), body
    assert await invites(gateway) == []


async def test_a_hub_that_nobody_can_dial_makes_no_invitation(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    status, body = await call(gateway, "POST", "/invites")
    assert (status, body["code"]) == (409, "no_address")
    assert (await call(gateway, "DELETE", "/invites/none"))[0] == 404


async def test_gateways_of_one_store_know_each_others_invitations(
    swarm: Swarm, postgres_url: str
) -> None:
    extra = f"storage: {{url: '{postgres_url}'}}\n"
    first = await swarm.gateway("first", extra, admission="token")
    second = await swarm.gateway("second", extra, admission="token")
    token = parse_join_link((await invite(first))["link"]).token
    many = [Newcomer(hub, number) for number, hub in enumerate((first, second) * 4, start=1)]
    for each in many:
        await each.dial()
        each.say("hello", each.hello(token=token))

    async def decided() -> tuple[int, int]:
        peers = sum(len(hub.hub.services[MESH].peers()) for hub in (first, second))
        return peers, sum(bool(each.ended) for each in many)

    assert await until(decided, lambda found: sum(found) == len(many)) == (1, len(many) - 1)
    for each in many:
        await each.transport.stop()
    # Who waits at one is approved at the other.
    newcomer = Newcomer(second, 100)
    await call(first, "POST", f"/nodes/{newcomer.peer_id}/approve")
    await newcomer.dial()
    newcomer.say("hello", newcomer.hello())

    async def peers() -> set[str]:
        return set(second.hub.services[MESH].peers())

    await until(peers, lambda found: newcomer.peer_id in found)
    await newcomer.transport.stop()
