"""What every mesh transport promises, what it may do besides, and what only some have to."""

import asyncio
import contextlib
import gc
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from swarm_hub.components.mesh.identity import peer_id_from_seed
from swarm_hub.components.mesh.transports.base import (
    PROVIDERS_MAX,
    Bans,
    Gossip,
    PeerGone,
    ProviderRecords,
)
from swarm_hub.components.mesh.transports.libp2p.transport import Libp2pTransport
from swarm_hub.components.mesh.wire.flow_control import WINDOW_MAX_BYTES, Credits
from swarm_hub.components.mesh.wire.framing import encode_message
from swarm_hub.components.mesh.wire.kinds import Message
from swarm_hub.components.mesh.wire.limits import QueueFull, TransportLimits
from swarm_hub.exceptions import MeshError
from tests.conftest import until
from tests.helpers.transports import (
    DEADLINE_S,
    QUICK,
    SHA,
    Factory,
    Side,
    connected,
    found,
    numbered,
    run_factory,
    until_found,
)


@contextlib.contextmanager
def withheld_credit(side: Side) -> Iterator[None]:
    """Have this side count what it takes, but not tell."""
    with pytest.MonkeyPatch.context() as patch:

        def silent(receiver: Credits, size_bytes: int) -> None:
            receiver.taken_bytes += size_bytes

        patch.setattr(Credits, "take", silent)
        yield


@pytest.fixture(params=["loopback", "libp2p", "plain"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Factory]:
    async for factory in run_factory(request.param):
        yield factory


@pytest.fixture(params=["loopback", "libp2p"])
async def make_able(request: pytest.FixtureRequest) -> AsyncIterator[Factory]:
    """Transports with gossip, provider records and bans."""
    async for factory in run_factory(request.param):
        yield factory


@pytest.fixture
async def make_libp2p() -> AsyncIterator[Factory]:
    async for factory in run_factory("libp2p"):
        yield factory


@pytest.fixture
async def make_loopback() -> AsyncIterator[Factory]:
    async for factory in run_factory("loopback"):
        yield factory


# Sessions


async def test_messages_pass_in_both_directions(make: Factory) -> None:
    a, b = await connected(make)
    b.send(a.peer_id, encode_message("hello", {"from": "b"}))
    a.send(b.peer_id, encode_message("hello", {"from": "a"}))
    await a.until(a.messages)
    await b.until(b.messages)
    assert a.messages() == [("hello", {"from": "b"})]
    assert b.messages() == [("hello", {"from": "a"})]
    assert a.bursts[0][0] == b.peer_id


async def test_an_address_names_the_peer_and_dialling_again_finds_the_live_session(
    make: Factory,
) -> None:
    a, b = await connected(make)
    assert a.address.endswith(f"/p2p/{a.peer_id}")
    assert await b.transport.dial(a.address) == a.peer_id
    assert await a.transport.dial(b.address) == b.peer_id
    assert a.events == [("up", b.peer_id, a.events[0][2])]


async def test_a_peer_learns_the_reason_of_a_disconnect(make: Factory) -> None:
    a, b = await connected(make)
    b.send(a.peer_id, encode_message("last", {}))
    await b.disconnect(a.peer_id, "work is done")
    await a.until(a.reasons)
    await b.until(b.reasons)
    assert b.reasons() == ["work is done"]
    assert a.reasons() == ["the peer said: work is done"]
    assert a.messages() == [("last", {})], "what was queued before arrives"


async def test_nothing_can_be_sent_to_a_peer_that_is_gone(make: Factory) -> None:
    a, b = await connected(make)
    await b.disconnect(a.peer_id, "bye")
    await b.until(b.reasons)
    with pytest.raises(PeerGone):
        b.send(a.peer_id, encode_message("late", {}))
    with pytest.raises(PeerGone):
        await b.send_bulk(a.peer_id, encode_message("late", {}))
    await b.disconnect(a.peer_id, "again")


async def test_a_peer_that_restarts_with_its_identity_comes_back(make: Factory) -> None:
    seed = os.urandom(32)
    a, b = await make(), await make(seed)
    await b.transport.dial(a.address)
    await b.transport.stop()
    await a.until(lambda: a.reasons() == ["the peer said: the hub is stopping"])
    again = await make(seed)
    await again.transport.dial(a.address)
    again.send(a.peer_id, encode_message("back", {}))
    await a.until(lambda: a.messages("back"))
    assert [event[0] for event in a.events] == ["up", "down", "up"]


async def test_simultaneous_dials_end_in_one_session(make: Factory) -> None:
    a, b = await make(), await make()
    await asyncio.gather(a.transport.dial(b.address), b.transport.dial(a.address))
    await a.until(lambda: a.live())
    await b.until(lambda: b.live())
    for number in range(20):
        a.send(b.peer_id, numbered("n", number))
        b.send(a.peer_id, numbered("n", number))
    await a.until(lambda: len(a.messages()) == 20)
    await b.until(lambda: len(b.messages()) == 20)
    assert [event[0] for event in a.events] == ["up"]
    assert [event[0] for event in b.events] == ["up"]


async def test_a_session_can_be_opened_again_many_times(make: Factory) -> None:
    a, b = await make(), await make()
    for number in range(5):
        await b.transport.dial(a.address)
        b.send(a.peer_id, numbered("n", number))
        await a.until(lambda: len(a.messages()) == number + 1)  # noqa: B023 - awaited here
        await (a if number % 2 else b).disconnect((b if number % 2 else a).peer_id, "once more")
        await a.until(lambda: not a.live())
        await b.until(lambda: not b.live())
    assert [event[0] for event in a.events] == ["up", "down"] * 5
    assert [event[0] for event in b.events] == ["up", "down"] * 5


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nonsense",
        "/ip4/127.0.0.1/tcp/1",
        "/ip4/127.0.0.1/udp/1/quic-v1/p2p/x",
        "/memory/0/p2p/",
    ],
)
async def test_a_bad_address_is_refused_with_one_line(make: Factory, address: str) -> None:
    a = await make()
    with pytest.raises(MeshError) as caught:
        await a.transport.dial(address)
    assert "\n" not in str(caught.value)


async def test_nobody_at_the_address_is_an_error_now_and_no_obstacle_later(make: Factory) -> None:
    seed = os.urandom(32)
    a, b = await make(), await make(seed)
    address = b.address
    await b.transport.stop()
    for _ in range(2):
        with pytest.raises(MeshError, match="cannot dial"):
            await a.transport.dial(address)
    again = await make(seed)
    await a.transport.dial(again.address)
    await a.until(lambda: a.live())


# Messages


async def test_control_messages_keep_their_order(make: Factory) -> None:
    a, b = await connected(make)
    for number in range(2000):
        b.send(a.peer_id, numbered("n", number, size=number % 700))
        if number % 100 == 0:
            await asyncio.sleep(0)
    await a.until(lambda: len(a.messages()) == 2000, "all messages")
    assert [fields["n"] for _, fields in a.messages()] == list(range(2000))


async def test_messages_that_wait_share_a_burst(make: Factory) -> None:
    a, b = await connected(make)
    for number in range(50):
        b.send(a.peer_id, numbered("n", number))
    await a.until(lambda: len(a.messages()) == 50)
    assert len(a.bursts) < 10


async def test_control_messages_overtake_bulk(make: Factory) -> None:
    a, b = await connected(make)
    for number in range(16):
        await b.send_bulk(a.peer_id, numbered("bulk", number, size=60_000))
    for number in range(3):
        b.send(a.peer_id, numbered("control", number))
    await a.until(lambda: len(a.messages()) == 19)
    order = [kind for kind, _ in a.messages()]
    assert order.index("control") < 10, order
    assert [fields["n"] for _, fields in a.messages("bulk")] == list(range(16))
    assert [fields["n"] for _, fields in a.messages("control")] == [0, 1, 2]


async def test_bulk_in_chunks_arrives_intact_through_a_bounded_queue(make: Factory) -> None:
    limits = TransportLimits(max_queue_bytes=1024 * 1024)
    a, b = await connected(make, limits=limits)
    original = os.urandom(8 * 1024 * 1024)
    chunk = 63 * 1024
    for offset in range(0, len(original), chunk):
        body = {"offset": offset, "body": original[offset : offset + chunk]}
        await b.send_bulk(a.peer_id, encode_message("blob", body))
    await a.until(lambda: len(a.messages()) == -(-len(original) // chunk))
    assert b"".join(fields["body"] for _, fields in a.messages()) == original


async def test_waiting_for_room_ends_when_the_peer_goes(make: Factory) -> None:
    limits = TransportLimits(max_queue_bytes=300 * 1024)
    a, b = await connected(make, limits=limits)

    async def send_without_end() -> None:
        while True:
            await b.send_bulk(a.peer_id, numbered("bulk", 0, size=60_000))

    sending = asyncio.create_task(send_without_end())
    await a.until(a.messages)
    await a.disconnect(b.peer_id, "enough")
    with pytest.raises(PeerGone):
        await asyncio.wait_for(sending, DEADLINE_S)


async def test_a_request_gets_the_fields_of_its_reply(make: Factory) -> None:
    a, b = await connected(make)

    def answer(peer_id: str, message: Message) -> None:
        _, fields = message
        reply = {"ask": fields["ask"], "twice": fields["n"] * 2}
        if fields["n"] == 13:
            reply = {"ask": fields["ask"], "error": "not that one"}
        a.send(peer_id, encode_message("reply", reply))

    a.on_message = answer
    answers = await asyncio.gather(*(b.request(a.peer_id, "double", {"n": n}) for n in range(12)))
    assert [fields["twice"] for fields in answers] == [2 * n for n in range(12)]
    with pytest.raises(MeshError, match="not that one"):
        await b.request(a.peer_id, "double", {"n": 13})
    assert b.messages() == []


async def test_a_request_that_nobody_answers_ends_in_time(make: Factory) -> None:
    a, b = await connected(make)
    with pytest.raises(MeshError, match="did not answer question within"):
        await b.request(a.peer_id, "question", {}, timeout_s=0.1)
    asking = asyncio.create_task(b.request(a.peer_id, "question", {}))
    await a.until(lambda: len(a.messages("question")) == 2)
    await a.disconnect(b.peer_id, "enough")
    with pytest.raises(MeshError, match="is gone"):
        await asyncio.wait_for(asking, DEADLINE_S)
    with pytest.raises(PeerGone):
        await b.request(a.peer_id, "question", {})


# What a transport may do besides


def test_each_transport_has_what_it_says_it_can() -> None:
    for kind, able in (("loopback", True), ("libp2p", True), ("plain", False)):
        transport = Factory(kind).transport(os.urandom(32), QUICK)
        for capability in (Gossip, ProviderRecords, Bans):
            assert isinstance(transport, capability) is able


# Who has which blob


async def star(make: Factory, count: int) -> tuple[Side, list[Side]]:
    """A side with content in the middle, and others connected to it and to nobody else."""
    middle = await make(content=True)
    others = [await make(content=True) for _ in range(count)]
    for each in others:
        await each.transport.dial(middle.address)
    return middle, others


async def test_a_provider_is_found_through_a_peer_in_between(make_able: Factory) -> None:
    _, (a, c) = await star(make_able, 2)
    await a.transport.provide(SHA)
    await until_found(c, [a.peer_id])
    (provider,) = await c.transport.find_providers(SHA)
    assert await c.transport.dial(provider.addresses[0]) == a.peer_id


async def test_each_of_several_providers_is_found_once(make_able: Factory) -> None:
    middle, (a, b, c) = await star(make_able, 3)
    for each in (middle, a, b):
        await each.transport.provide(SHA)
        await each.transport.provide(SHA)
    wanted = [middle.peer_id, a.peer_id, b.peer_id]
    await until_found(c, wanted)
    assert len(await found(c)) == len(wanted)


async def test_no_more_providers_are_found_than_anybody_has_use_for(make_able: Factory) -> None:
    middle, others = await star(make_able, PROVIDERS_MAX + 1)
    for each in others:
        await each.transport.provide(SHA)
    await until(lambda: found(middle), lambda those: len(those) >= PROVIDERS_MAX)
    assert len(await found(middle)) == PROVIDERS_MAX


async def test_nobody_finds_what_nobody_provides_and_nobody_itself(make_able: Factory) -> None:
    _, (a, c) = await star(make_able, 2)
    began = time.monotonic()
    assert await found(c, "6" * 64) == []
    assert time.monotonic() - began < 9
    await a.transport.provide(SHA)
    await until_found(c, [a.peer_id])
    assert await found(a) == []


async def test_who_has_nobody_to_ask_finds_nothing(make_able: Factory) -> None:
    alone = await make_able(content=True)
    await alone.transport.provide(SHA)
    assert await found(alone) == []
    await alone.transport.withdraw(SHA)


async def test_without_content_nobody_provides_or_finds(make_able: Factory) -> None:
    a, b = await connected(make_able)
    for call in (a.transport.provide, a.transport.withdraw, b.transport.find_providers):
        with pytest.raises(MeshError, match="does not take part"):
            await call(SHA)


async def test_a_side_without_content_is_no_obstacle_to_the_others(make_able: Factory) -> None:
    middle, (a, c) = await star(make_able, 2)
    plain = await make_able()
    await plain.transport.dial(middle.address)
    await a.transport.provide(SHA)
    await until_found(c, [a.peer_id])
    plain.send(middle.peer_id, encode_message("hello", {}))
    await middle.until(middle.messages)


async def test_a_session_says_with_whom_and_where_it_is(make: Factory) -> None:
    a, b = await connected(make)
    assert set(a.sessions) == {b.peer_id} == {a.sessions[b.peer_id].peer_id}
    assert b.sessions[a.peer_id].address in a.address
    assert a.sessions[b.peer_id].address == a.events[0][2]
    await a.disconnect(b.peer_id, "enough")
    await b.until(lambda: b.reasons())
    for side, other in ((a, b), (b, a)):
        assert side.live() == set()
        with pytest.raises(PeerGone):
            side.send(other.peer_id, encode_message("late", {}))


async def test_a_peer_that_takes_nothing_gets_a_bounded_share_of_bulk(make: Factory) -> None:
    """The receiver gives no credit while its events are held back."""
    a, b = await connected(make)
    sent = 0

    async def send_without_end() -> None:
        nonlocal sent
        while True:
            await b.send_bulk(a.peer_id, numbered("bulk", sent, size=60_000))
            sent += 1

    with withheld_credit(a):
        sending = asyncio.create_task(send_without_end())
        await a.until(lambda: a.messages("bulk"))
        seen = -1
        while seen != sent:
            seen = sent
            await asyncio.sleep(0.3)
        arrived = len(a.messages("bulk")) * 60_000
        assert arrived <= WINDOW_MAX_BYTES
        assert sent * 60_000 <= WINDOW_MAX_BYTES + QUICK.max_queue_bytes // 2 + 60_000
        b.send(a.peer_id, numbered("control", 1))
        await a.until(lambda: a.messages("control"), "a control message beside stalled bulk")
    # Credit for what was taken comes with the next bytes.
    b.send(a.peer_id, numbered("control", 2, size=40_000))
    await a.until(lambda: len(a.messages("bulk")) * 60_000 > 2 * WINDOW_MAX_BYTES)
    sending.cancel()


async def test_every_byte_is_credited_however_it_was_read(make: Factory) -> None:
    a, b = await connected(make)
    generator = random.Random(3)
    # Messages of all sizes arrive in parts; what is counted wrongly would add up to a standstill.
    for number in range(60):
        b.send(a.peer_id, numbered("n", number, size=generator.randrange(900_000)))
        await a.until(lambda count=number: len(a.messages("n")) > count)
    for number in range(60):
        await b.send_bulk(a.peer_id, numbered("bulk", number, size=60_000))
    await a.until(lambda: len(a.messages("bulk")) == 60, "bulk after many messages")


async def test_a_queue_that_is_full_is_refused_and_what_was_queued_arrives(make: Factory) -> None:
    limits = TransportLimits(max_queue_bytes=100_000)
    a, b = await connected(make, limits=limits)
    for number in range(9):
        b.send(a.peer_id, numbered("n", number, size=10_000))
    with pytest.raises(QueueFull):
        b.send(a.peer_id, numbered("n", 9, size=10_000))
    await a.until(lambda: len(a.messages()) == 9)


async def test_a_message_too_large_to_send_is_the_senders_error(make: Factory) -> None:
    a, b = await connected(make)
    with pytest.raises(MeshError, match="at most"):
        b.send(a.peer_id, numbered("n", 0, size=1024 * 1024))
    with pytest.raises(MeshError, match="at most"):
        await b.send_bulk(a.peer_id, numbered("n", 0, size=300 * 1024))
    b.send(a.peer_id, numbered("fine", 0))
    await a.until(a.messages)


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (b"\xff\xff\xff", "not valid CBOR"),
        (b"\x82\x61a\xbf\x61x\x01\xff", "not valid CBOR"),
        (b"\x82\x61a" + b"\x81" * 200 + b"\x00", "not valid CBOR"),
        (b"\x01", "not \\[kind, fields\\]"),
        (encode_message("a", {"body": b"x" * 70_000}), "at most 65536"),
    ],
    ids=["garbage", "indefinite", "deep", "shape", "oversize"],
)
async def test_a_bad_frame_disconnects_only_its_sender(
    make: Factory, message: bytes, complaint: str
) -> None:
    a = await make(limits=TransportLimits(max_frame_bytes=65_536))
    good, bad = await make(), await make()
    await good.transport.dial(a.address)
    await bad.transport.dial(a.address)
    await a.until(lambda: len(a.live()) == 2)
    bad.send(a.peer_id, message)
    await a.until(a.reasons)
    await bad.until(bad.reasons)
    assert a.live() == {good.peer_id}
    assert a.reasons()[0].startswith("the peer sent ")
    assert re.search(complaint, a.reasons()[0])
    good.send(a.peer_id, encode_message("still", {}))
    await a.until(lambda: a.messages("still"))


# Bans


async def test_a_banned_peer_is_dropped_and_refused_in_both_directions(make_able: Factory) -> None:
    a, b = await connected(make_able)
    a.transport.ban({b.peer_id})
    await a.until(a.reasons)
    await b.until(b.reasons)
    assert a.reasons() == ["the peer is banned"]
    with pytest.raises(MeshError, match="banned"):
        await a.transport.dial(b.address)
    with pytest.raises(MeshError):
        await b.transport.dial(a.address)
    assert [event[0] for event in a.events] == ["up", "down"]
    a.transport.ban(())
    await b.transport.dial(a.address)
    await a.until(lambda: a.live() == {b.peer_id})


async def test_a_ban_set_before_the_start_holds(make_able: Factory) -> None:
    banned = await make_able()
    a = Side(make_able.transport(os.urandom(32), QUICK))
    make_able.sides.append(a)
    a.transport.ban({banned.peer_id})
    await a.transport.start(a)
    with pytest.raises(MeshError):
        await banned.transport.dial(a.address)
    assert a.events == []


# Gossip


async def test_gossip_reaches_subscribers_without_subscribing_oneself(make_able: Factory) -> None:
    a, b = await connected(make_able)
    await a.transport.subscribe("telemetry")

    async def publish() -> None:
        number = 0
        while not a.gossip:
            await b.transport.publish("telemetry", b"%d" % number)
            await b.transport.publish("other", b"nobody listens")
            number += 1
            await asyncio.sleep(0.1)

    await asyncio.wait_for(publish(), DEADLINE_S)
    source, topic, payload = a.gossip[0]
    assert (source, topic) == (b.peer_id, "telemetry")
    assert payload.isdigit()


# Life


async def test_stop_disconnects_in_bounded_time_and_can_be_repeated(make: Factory) -> None:
    a, b = await connected(make)
    began = time.monotonic()
    await a.transport.stop()
    await a.transport.stop()
    assert time.monotonic() - began < 3
    assert a.transport.addresses() == ()
    await b.until(lambda: not b.live())
    assert a.reasons() == ["the hub is stopping"]
    with pytest.raises(MeshError):
        await a.transport.dial(b.address)
    with pytest.raises(PeerGone):
        a.send(b.peer_id, b"")


async def test_a_transport_can_be_started_again(make: Factory) -> None:
    a, b = await connected(make)
    await a.transport.stop()
    await a.transport.start(a)
    await b.until(lambda: not b.live())
    await b.transport.dial(a.address)
    await a.until(lambda: a.live())


# Loopback only


async def test_a_hub_can_be_its_own_peer(make_loopback: Factory) -> None:
    a = await make_loopback()
    assert await a.transport.dial(a.address) == a.peer_id
    a.send(a.peer_id, encode_message("self", {"n": 1}))
    await a.send_bulk(a.peer_id, encode_message("self", {"n": 2}))
    await a.until(lambda: len(a.messages()) == 2)
    await a.disconnect(a.peer_id, "done")
    await a.until(a.reasons)
    assert [event[0] for event in a.events] == ["up", "down"]


async def test_a_peer_id_exists_once_in_a_process(make_loopback: Factory) -> None:
    seed = os.urandom(32)
    await make_loopback(seed)
    with pytest.raises(MeshError, match="in use"):
        await make_loopback(seed)


# libp2p only


async def test_a_port_in_use_is_named(make_libp2p: Factory) -> None:
    a = await make_libp2p()
    taken = a.address.partition("/p2p/")[0]
    with pytest.raises(MeshError, match=f"cannot listen on {taken}: ") as caught:
        await Libp2pTransport(os.urandom(32), listen=[taken]).start(a)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "listen", ["", "/ip4/127.0.0.1", "/dns4/localhost/tcp/1", "/ip4/1.2.3.4/tcp/70000"]
)
def test_a_bad_listen_address_is_refused_before_the_start(listen: str) -> None:
    with pytest.raises(MeshError):
        Libp2pTransport(os.urandom(32), listen=[listen])


async def test_a_name_can_be_dialled(make_libp2p: Factory) -> None:
    a, b = await make_libp2p(), await make_libp2p()
    port = a.address.split("/")[4]
    await b.transport.dial(f"/dns4/localhost/tcp/{port}/p2p/{a.peer_id}")
    await a.until(lambda: a.live())


async def test_another_peer_at_the_address_is_refused(make_libp2p: Factory) -> None:
    a, b = await make_libp2p(), await make_libp2p()
    stranger = peer_id_from_seed(os.urandom(32))
    with pytest.raises(MeshError, match="does not correspond"):
        await b.transport.dial(a.address.replace(a.peer_id, stranger))
    assert not a.live()


async def test_a_banned_network_is_refused_in_both_directions(make_libp2p: Factory) -> None:
    a, b = await connected(make_libp2p)
    a.transport.ban((), ["127.0.0.0/8"])
    await a.until(a.reasons)
    assert a.reasons() == ["the peer is banned"]
    with pytest.raises(MeshError, match="banned network"):
        await a.transport.dial(b.address)
    with pytest.raises(MeshError):
        await b.transport.dial(a.address)
    with pytest.raises(MeshError, match="cannot ban"):
        a.transport.ban((), ["not a network"])


async def test_the_newest_of_two_with_one_identity_replaces_the_older(
    make_libp2p: Factory,
) -> None:
    seed = os.urandom(32)
    # To `a` the newer connection is a spare one until there is a session on it.
    patient = TransportLimits(spare_connection_s=DEADLINE_S, dial_timeout_s=8.0)
    a, older = await make_libp2p(limits=patient), await make_libp2p(seed)
    await older.transport.dial(a.address)
    newer = await make_libp2p(seed)
    await newer.transport.dial(a.address)
    await older.until(older.reasons)
    await a.until(lambda: len(a.events) == 3)
    assert [event[0] for event in a.events] == ["up", "down", "up"]
    assert a.reasons() == ["replaced by a newer connection"]
    a.send(newer.peer_id, encode_message("to-newer", {}))
    await newer.until(newer.messages)
    assert not older.messages()


async def test_one_connection_is_left_after_simultaneous_dials(make_libp2p: Factory) -> None:
    a, b = await make_libp2p(), await make_libp2p()
    await asyncio.gather(a.transport.dial(b.address), b.transport.dial(a.address))

    def connections(side: Side) -> int:
        assert isinstance(side.transport, Libp2pTransport)
        assert side.transport._host is not None
        return len(side.transport._host._swarm.get_connections())

    await a.until(lambda: connections(a) == 1 and connections(b) == 1, "one connection")
    assert a.live()
    assert [event[0] for event in b.events] == ["up"]


async def test_a_frozen_peer_is_disconnected_within_a_second(make_libp2p: Factory) -> None:
    a = await make_libp2p()
    with peer_process() as (process, address):
        peer_id = await a.transport.dial(address)
        await a.until(lambda: a.live())
        process.send_signal(signal.SIGSTOP)
        for number in range(40):
            a.send(peer_id, numbered("n", number, size=200_000))
        await a.until(stuck(a, peer_id, 40 * 200_000), "a writer that is stuck")
        began = time.monotonic()
        await a.disconnect(peer_id, "silent")
        assert time.monotonic() - began < 1.0
        await a.until(a.reasons)
        assert a.reasons() == ["silent"]
        process.send_signal(signal.SIGCONT)


async def test_a_killed_peer_is_noticed_at_once(make_libp2p: Factory) -> None:
    a = await make_libp2p()
    with peer_process() as (process, address):
        await a.transport.dial(address)
        await a.until(lambda: a.live())
        process.kill()
        began = time.monotonic()
        await a.until(a.reasons)
        assert time.monotonic() - began < 2.0
        assert a.reasons() == ["the connection was lost"]


async def test_the_end_of_the_thread_takes_every_peer_down_and_is_told(
    make_libp2p: Factory, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = await connected(make_libp2p)
    assert isinstance(a.transport, Libp2pTransport)
    assert a.transport._bridge is not None

    async def break_trio() -> None:
        raise RuntimeError("broken on purpose")

    a.transport._bridge.post(a.transport._bridge.start_soon, break_trio)
    await a.until(lambda: a.failure)
    assert a.failure is not None
    assert "broken on purpose" in a.failure
    assert not a.live()
    with pytest.raises(MeshError):
        await a.transport.dial(b.address)
    await b.until(lambda: not b.live())


async def test_reconnects_leave_nothing_behind(make_libp2p: Factory) -> None:
    """The library's defaults allow 250 inbound connections in a lifetime and leak a task each."""
    limits = TransportLimits(max_connections=8, spare_connection_s=0.05)
    a, b = await make_libp2p(limits=limits), await make_libp2p(limits=limits)
    assert isinstance(a.transport, Libp2pTransport)

    async def tasks(side: Side) -> int:
        import trio

        transport = side.transport
        assert isinstance(transport, Libp2pTransport)
        assert transport._bridge is not None

        async def count() -> int:
            return int(trio.lowlevel.current_statistics().tasks_living)

        return await transport._bridge.call(count)

    counts = []
    for number in range(40):
        await b.transport.dial(a.address)
        await a.until(lambda: a.live())
        await b.disconnect(a.peer_id, "round")
        await a.until(lambda: not a.live())
        if number == 4:
            end = time.monotonic() + 3
            while time.monotonic() < end:
                counts.append(await tasks(a) + await tasks(b))
                await asyncio.sleep(0.05)

    async def living() -> int:
        return await tasks(a) + await tasks(b)

    # What ended a moment ago may have a task still, on a busy machine for longer.
    await until(living, lambda count: count <= min(counts))
    assert a.transport._host is not None
    assert a.transport._host._swarm._inbound_limiter.borrowed_tokens == 0
    gc.collect()


def stuck(side: Side, peer_id: str, queued: int) -> Callable[[], bool]:
    """Whether sending has begun and has not gone on since the last look, 50 ms ago."""
    assert isinstance(side.transport, Libp2pTransport)
    outbox = side.transport._sessions[peer_id].outbox
    seen: list[int] = []

    def look() -> bool:
        seen.append(outbox.queued_bytes)
        return len(seen) > 2 and 0 < seen[-1] == seen[-2] < queued

    return look


@contextlib.contextmanager
def peer_process() -> Any:
    """A peer in a process of its own; its standard input keeps it alive."""
    code = (
        "import asyncio, os, sys\n"
        "from swarm_hub.components.mesh.transports.libp2p.transport import Libp2pTransport\n"
        "class Deaf:\n"
        "    def __getattr__(self, name): return lambda *args: None\n"
        "async def main():\n"
        "    t = Libp2pTransport(os.urandom(32), listen=['/ip4/127.0.0.1/tcp/0'])\n"
        "    await t.start(Deaf())\n"
        "    print(t.addresses()[0], flush=True)\n"
        "    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()
