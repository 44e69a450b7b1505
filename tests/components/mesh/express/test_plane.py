"""Express connections between two sides over real sockets: asked for, offered, used and left."""

import asyncio
import itertools
import socket
from typing import Any

import pytest

from swarm_hub.components.mesh.express import plane as plane_module
from swarm_hub.components.mesh.express.offers import ASK, OFFER, Ask, Offer, Place
from swarm_hub.components.mesh.express.opening import PROOF_BYTES
from swarm_hub.components.mesh.wire.framing import encode_message
from tests.helpers.express import ExpressPair, ExpressSide, Relay, express_pair
from tests.helpers.later import ADDED

# What opens a connection, and the proof that answers it.
_OPENING_BYTES, _PROOF_BYTES = 87, 67


async def joined(pair: ExpressPair) -> None:
    pair.worker.plane.met("gateway")
    await pair.until(lambda: pair.is_express, "both directions on the express connection")


async def test_both_directions_go_over_and_nothing_is_out_of_order() -> None:
    async with express_pair() as pair:
        pair.worker.plane.met("gateway")
        for number in itertools.count():
            pair.worker.say(number)
            pair.gateway.say(number)
            await asyncio.sleep(0)
            if pair.is_express and number > 200:
                break
        sent = number + 1
        for side in (pair.gateway, pair.worker):
            await pair.until(lambda side=side: len(side.numbers()) == sent)
        pair.check_order()
        # What came over the connection is the word of the other side's key.
        for side in (pair.gateway, pair.worker):
            (first, *_), last = side.proofs, side.proofs[-1]
            assert first is None
            assert last is not None
            assert (last.peer_id, last.public_key) == (side.other.name, side.other.key)
            assert side.plane.vouches(side.other.name, side.key)
            assert not side.plane.vouches(side.other.name, b"another key")


async def test_what_comes_on_the_new_way_first_waits() -> None:
    async with express_pair() as pair:
        pair.gateway.live().is_slow = True
        pair.worker.say(0)
        pair.worker.plane.met("gateway")
        await pair.until(lambda: pair.worker.is_express)
        pair.worker.say(1)
        # The records have arrived, and the marker has not.
        await asyncio.sleep(0.05)
        assert pair.gateway.numbers() == []
        assert not pair.gateway.is_express
        pair.gateway.live().go_on()
        await pair.until(lambda: pair.gateway.numbers() == [0, 1])
        await pair.until(lambda: pair.is_express)


async def test_both_return_to_the_stream_and_go_over_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plane_module, "_RENEWED_S", 0.01)
    async with express_pair() as pair:
        await joined(pair)
        for round_ in range(3):
            for side in (pair.worker, pair.gateway):
                side.say(round_)
            keys = {link.own_key for link in pair.gateway.plane._links.values()}
            assert keys == {pair.gateway.key}
            pair.gateway.key = bytes([round_]) * 32
            pair.gateway.plane.renew()
            await pair.until(
                lambda: pair.is_express and pair.gateway.plane.vouches("worker", pair.gateway.key),
                "a new connection under the new key",
            )
        for side in (pair.worker, pair.gateway):
            await pair.until(lambda side=side: len(side.numbers()) == 3)
        pair.check_order()
        assert pair.worker.live().reason is None


@pytest.mark.parametrize("who", ["worker", "gateway"])
async def test_a_side_that_leaves_while_only_the_worker_is_over_loses_nothing(who: str) -> None:
    async with express_pair() as pair:
        # The gateway has the connection, and the worker's marker is still on its way.
        pair.gateway.live().is_slow = True
        pair.worker.plane.met("gateway")
        await pair.until(lambda: pair.worker.is_express and pair.gateway.live().planes.link)
        for number in range(3):
            pair.worker.say(number)
        pair.gateway.say(0)
        (pair.worker if who == "worker" else pair.gateway).live().planes.leave()
        pair.worker.say(3)
        pair.gateway.say(1)
        # What can arrive without the marker has.
        await asyncio.sleep(0.05)
        pair.gateway.say(2)
        pair.gateway.live().go_on()
        await pair.until(lambda: len(pair.gateway.numbers()) == 4, "all that the worker has said")
        await pair.until(lambda: len(pair.worker.numbers()) == 3, "all that the gateway has said")
        pair.check_order()
        for side in (pair.gateway, pair.worker):
            await pair.until(side.live().planes.on_stream.is_set, "the way back")
            assert not side.live().is_over


async def test_what_comes_on_the_stream_first_waits_on_the_way_back() -> None:
    async with express_pair() as pair, Relay.before(pair.gateway.listener) as relay:
        await joined(pair)
        held: list[bytes] = []
        relay.change = lambda way, _at, part: held.append(part) or b"" if way == "up" else part
        pair.worker.say(0)
        pair.worker.live().planes.leave()
        pair.worker.say(1)
        await pair.until(lambda: held and pair.gateway.live().planes._held)
        assert pair.gateway.numbers() == []
        relay.cut()
        # The rest never came, so the session can't go on.
        await pair.until(lambda: pair.gateway.live().is_over)
        assert pair.gateway.numbers() == []


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("half", [0, 1])
async def test_a_path_that_cuts_at_any_byte_loses_and_doubles_nothing(
    way: str, half: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte of the opening, and of the records with which the directions go over."""
    monkeypatch.setattr(plane_module, "_LAST_WORD_S", 0.0)
    last = _OPENING_BYTES + 120 if way == "up" else _PROOF_BYTES + 120
    for cut in range(half, last, 2):
        async with express_pair() as pair:
            await cut_after(pair, way, cut)


async def cut_after(pair: ExpressPair, way: str, cut: int) -> None:
    async with Relay.before(pair.gateway.listener) as relay:
        await settled_after(pair, relay, way, cut)
    pair.check_order()


async def settled_after(pair: ExpressPair, relay: Relay, way: str, cut: int) -> None:
    relay.passes[way] = cut
    pair.worker.plane.met("gateway")
    sides = (pair.gateway, pair.worker)
    sent = 0
    while not relay.is_cut or sent < 20:
        for side in sides:
            if not side.live().is_over:
                side.say(sent)
        sent += 1
        await asyncio.sleep(0)

    def settled() -> bool:
        ended = all(side.live().is_over for side in sides)
        arrived = all(len(side.numbers()) == sent for side in sides)
        return ended or (arrived and not any(side.live().planes.is_in_use for side in sides))

    await pair.until(settled, f"an end after {cut} bytes {way}")


@pytest.mark.parametrize("at", [0, 5, 30, 70, _OPENING_BYTES - 1])
async def test_a_forged_opening_opens_nothing_and_uses_nothing_up(
    at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with express_pair() as pair:
        take, taken = pair.worker.plane.on_offer, []
        monkeypatch.setattr(pair.worker.plane, "on_offer", lambda *offer: taken.append(offer))
        pair.worker.plane.met("gateway")
        await pair.until(lambda: taken)
        (offer_id,) = pair.gateway.plane._offers
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", pair.gateway.listener.port)) as stranger:
                opening = bytearray(b"SHX1" + offer_id + bytes(_PROOF_BYTES))
                opening[at] ^= 0xFF
                stranger.sendall(opening)
                await pair.until(lambda stranger=stranger: is_closed(stranger))
        take(*taken[0])
        await pair.until(lambda: pair.is_express)


def is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


async def test_an_offer_stands_three_tries_and_ten_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with express_pair() as pair:
        offers = await only_offered(pair, monkeypatch)
        (offer_id,) = offers
        for _ in range(3):
            assert pair.gateway.plane._prove(offer_id, bytes(_PROOF_BYTES)) is None
        assert not offers
    async with express_pair() as pair:
        offers = await only_offered(pair, monkeypatch)
        (offered,) = offers.values()
        assert offered.until <= pair.gateway.clock.monotonic() + 10
        offered.until = pair.gateway.clock.monotonic()
        assert pair.gateway.plane._prove(next(iter(offers)), bytes(_PROOF_BYTES)) is None
        assert offered.tries == 0
        assert offers


async def only_offered(pair: ExpressPair, monkeypatch: pytest.MonkeyPatch) -> dict[bytes, Any]:
    """Have an offer that nobody takes."""
    monkeypatch.setattr(pair.worker.plane, "on_offer", lambda *_: None)
    pair.worker.plane.met("gateway")
    await pair.until(lambda: pair.gateway.plane._offers)
    return pair.gateway.plane._offers


async def test_one_offer_a_peer_and_not_at_any_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    async with express_pair() as pair:
        offers = await only_offered(pair, monkeypatch)
        before = set(offers)
        pair.worker.plane.met("gateway")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        # Too soon after the first one.
        assert set(offers) == before
        pair.gateway.plane._history["worker"].asked_at = -1e9
        pair.worker.plane.met("gateway")
        await pair.until(lambda: set(offers) != before)
        assert len(offers) == 1


async def test_an_offer_to_an_ask_of_another_session_or_run_is_none() -> None:
    async with express_pair() as pair:
        worker, gateway = pair.worker, pair.gateway
        place = worker.place(worker.live())
        assert place is not None
        eph = bytes(32)
        for other in (
            Place("another run", place.peer_boot, place.session),
            Place(place.boot, "another run", place.session),
            Place(place.boot, place.peer_boot, (place.session[0], place.session[1] + 1)),
        ):
            gateway.plane.on_ask("worker", Ask((1,), eph, other).to_wire(), b"h", worker.key)
        # A suite that nobody knows.
        gateway.plane.on_ask("worker", Ask((7,), eph, place).to_wire(), b"h", worker.key)
        assert not gateway.plane._offers


async def test_an_offer_that_answers_another_ask_is_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with express_pair() as pair:
        worker = pair.worker
        sent: list[tuple[Any, ...]] = []
        dialled: list[bytes] = []

        async def dial(_host: str, _port: int, offer_id: bytes, _terms: Any) -> None:
            dialled.append(offer_id)

        monkeypatch.setattr(worker.plane, "_dial", dial)

        def send(*message: Any) -> bytes:
            sent.append(message)
            return b"header"

        pair.gateway.plane.sign_with(lambda: pair.gateway.key, send)
        worker.plane.met("gateway")
        await pair.until(lambda: sent)
        (_, kind, fields) = sent[0]
        assert kind == OFFER
        for change in (
            {"ask": bytes(32)},
            {"suite": 2},
            {"peer_boot": "x"},
            {"session": [b"g" * 16, 9]},
        ):
            asked = dict(worker.plane._asked)
            worker.plane.on_offer("gateway", {**fields, **change}, b"header", pair.gateway.key)
            worker.plane._asked.update(asked)
        # Orders to dial are carried out in turn, so the one that is right would be behind those.
        worker.plane.on_offer("gateway", fields, b"header", pair.gateway.key)
        await pair.until(lambda: dialled)
        assert dialled == [fields["id"]]


@pytest.mark.parametrize("what", ["header", "key"])
async def test_a_connection_is_bound_to_both_envelopes_and_keys(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who changes what was signed on its way gets no connection, and no session is harmed."""
    async with express_pair() as pair:
        take = pair.worker.plane.on_offer

        def changed(peer_id: str, fields: Any, header: bytes, key: bytes) -> None:
            if what == "header":
                header = header[:-1] + bytes([header[-1] ^ 1])
            else:
                key = bytes(32)
            take(peer_id, fields, header, key)

        monkeypatch.setattr(pair.worker.plane, "on_offer", changed)
        pair.worker.plane.met("gateway")
        await pair.until(lambda: any(each.tries for each in pair.gateway.plane._offers.values()))
        await asyncio.sleep(0)
        assert not pair.gateway.is_express
        assert not pair.worker.is_express
        pair.worker.say(0)
        await pair.until(lambda: pair.gateway.numbers() == [0])


@pytest.mark.parametrize("change", ["flip", "repeat", "swap", "cut", "long", "reflect"])
async def test_what_is_changed_on_its_way_ends_the_session_and_bans_nobody(change: str) -> None:
    async with express_pair() as pair, Relay.before(pair.gateway.listener) as relay:
        await joined(pair)
        await asyncio.sleep(0.02)
        parts: list[bytes] = []

        def damaged(way: str, _at: int, part: bytes) -> bytes:
            if way == "down":
                return part
            parts.append(part)
            if change == "flip":
                return part[:-1] + bytes([part[-1] ^ 1])
            if change == "repeat":
                return part + part
            if change == "swap":
                return b"" if len(parts) < 2 else b"".join(reversed(parts))
            if change == "cut":
                return part[:-3] if len(parts) == 1 else part
            if change == "long":
                return b"\xff\xff\xff\xff" + part[4:]
            down = bytes(relay.passed["down"][_PROOF_BYTES:])
            return down or part

        pair.gateway.say(0)
        await pair.until(lambda: pair.worker.numbers() == [0])
        relay.change = damaged
        pair.worker.say(0)
        await asyncio.sleep(0.02)
        pair.worker.say(1)
        await pair.until(lambda: pair.gateway.live().is_over)
        assert pair.gateway.numbers() in ([], [0])
        assert pair.gateway.floods == []
        await pair.until(lambda: pair.worker.live().is_over)


async def test_after_two_losses_there_is_none_for_a_while() -> None:
    async with express_pair() as pair, Relay.before(pair.gateway.listener) as relay:
        for _ in range(2):
            await joined(pair)
            relay.cut()
            await pair.until(lambda: pair.gateway.live().is_over and pair.worker.live().is_over)
            pair.gateway.plane._history["worker"].asked_at = -1e9
            pair.meet()
        before = len(pair.worker.headers)
        pair.worker.plane.met("gateway")
        await asyncio.sleep(0)
        assert len(pair.worker.headers) == before
        assert pair.worker.plane._history["gateway"].without_until > pair.worker.clock.monotonic()
        pair.worker.say(0)
        await pair.until(lambda: pair.gateway.numbers() == [0])


async def test_a_closed_port_leaves_the_session_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async with express_pair() as pair:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            pair.gateway.listener.port, port = nobody.getsockname()[1], pair.gateway.listener.port
            pair.worker.plane.met("gateway")
            await pair.until(lambda: pair.gateway.plane._offers and not pair.worker.plane._asked)
            pair.worker.say(0)
            await pair.until(lambda: pair.gateway.numbers() == [0])
        # It is asked for again.
        pair.gateway.listener.port = port
        pair.gateway.plane._history["worker"].asked_at = -1e9
        await joined(pair)
        assert not pair.worker.live().is_over


async def test_a_dropped_session_takes_its_connection_along_at_once() -> None:
    async with express_pair() as pair:
        await joined(pair)
        (link,) = pair.gateway.plane._links.values()
        pair.gateway.live().planes.drop()
        # In the same turn of the loop: no keys, and no socket that is read or written.
        assert link._outgoing is link._incoming is None
        assert link._transport is not None
        assert link._transport.is_closing()
        assert not pair.gateway.is_express
        pair.worker.say(0)
        await pair.until(lambda: pair.worker.live().is_over)
        assert pair.gateway.numbers() == []


async def test_a_device_that_slept_hears_nothing_stale() -> None:
    async with express_pair(silent_s=15.0) as pair:
        await joined(pair)
        (link,) = pair.gateway.plane._links.values()
        link._heard_at -= 15.1
        pair.worker.say(0)
        await pair.until(lambda: pair.gateway.live().is_over)
        assert pair.gateway.numbers() == []
        assert "silent" in (pair.gateway.live().reason or "")


async def test_bulk_waits_for_room_and_control_overtakes_it() -> None:
    async with express_pair() as pair:
        await joined(pair)
        body = encode_message("blob", {"body": bytes(64_000)})
        sending = asyncio.ensure_future(send_all(pair.worker, [body] * 100))
        await asyncio.sleep(0)
        pair.worker.say(0)
        await pair.until(lambda: pair.gateway.numbers() == [0])
        assert len([1 for kind, _ in pair.gateway.messages if kind == "blob"]) < 100
        await sending
        await pair.until(
            lambda: len([1 for kind, _ in pair.gateway.messages if kind == "blob"]) == 100
        )


async def test_bulk_that_waits_goes_on_over_the_other_way() -> None:
    async with express_pair() as pair:
        body = encode_message("blob", {"body": bytes(64_000)})
        pair.worker.plane.met("gateway")
        await send_all(pair.worker, [body] * 150)
        await pair.until(lambda: pair.is_express)
        await send_all(pair.worker, [body] * 50)
        pair.worker.live().planes.leave()
        await send_all(pair.worker, [body] * 50)
        await pair.until(
            lambda: len([1 for kind, _ in pair.gateway.messages if kind == "blob"]) == 250
        )
        assert not pair.worker.live().is_over


async def send_all(side: ExpressSide, messages: list[bytes]) -> None:
    for message in messages:
        await side.live().send_bulk(message)


async def test_a_peer_that_reads_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with express_pair() as pair:
        await joined(pair)
        (link,) = pair.gateway.plane._links.values()
        assert link._transport is not None
        link._transport.pause_reading()
        body = encode_message("n", {"n": 0, "body": bytes(500_000)})
        for _ in range(15):
            pair.worker.live().send(body)
            await asyncio.sleep(0)
        await pair.until(lambda: pair.worker.live().is_over)
        assert "has read nothing for 2 s" in (pair.worker.live().reason or "")


async def test_a_flood_is_slowed_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with express_pair() as pair:
        meters = pair.gateway.plane._meters
        monkeypatch.setattr(meters, "_allowance", link_allowance(100.0))
        await joined(pair)
        for number in range(5000):
            pair.worker.say(number)
            if number % 50 == 0:
                await asyncio.sleep(0.002)
            if pair.gateway.floods:
                break
        await pair.until(lambda: pair.gateway.floods)
        assert "flooding: more than 100 messages" in pair.gateway.floods[0]
        assert len(pair.gateway.numbers()) < 5000
        # It is let go of, once, and told why.
        await pair.until(lambda: pair.worker.live().is_over)
        assert pair.gateway.live().reason == pair.gateway.floods[0]
        assert "flooding" in (pair.worker.live().reason or "")
        assert len(pair.gateway.floods) == 1


def link_allowance(messages_per_s: float) -> Any:
    from swarm_hub.components.mesh.wire.metering import Allowance

    return Allowance(messages_per_s, 1e9, patience_s=0.2)


@pytest.mark.parametrize(
    "record",
    [b"\x01", b"\x80", b"\x9f\xff", b"\xc1\x80", b"\x81\x82\x61n\x01"],
)
async def test_what_is_sealed_and_no_message_is_the_peers_fault(record: bytes) -> None:
    async with express_pair() as pair:
        await joined(pair)
        (link,) = pair.worker.plane._links.values()
        assert link._outgoing is not None
        assert link._transport is not None
        link._transport.write(link._outgoing.seal(record))
        await pair.until(lambda: pair.gateway.live().is_over)
        assert "the peer sent" in (pair.gateway.live().reason or "")


async def test_a_record_that_is_too_long_is_not_waited_for() -> None:
    async with express_pair() as pair:
        await joined(pair)
        (link,) = pair.worker.plane._links.values()
        assert link._transport is not None
        link._transport.write((2**24).to_bytes(4, "big"))
        await pair.until(lambda: pair.gateway.live().is_over)
        assert "at most 1048592 are accepted" in (pair.gateway.live().reason or "")


@pytest.mark.parametrize("body_bytes", [0, 60_000])
async def test_a_peer_that_goes_on_with_the_stream_that_it_left_is_let_go(body_bytes: int) -> None:
    async with express_pair() as pair:
        await joined(pair)
        worker, gateway = pair.worker.live(), pair.gateway.live()
        message = encode_message("n", {"b": bytes(body_bytes)})
        for _ in range(20 if body_bytes else 10_000):
            worker.stream.put_control(message)
        worker._wake()
        await pair.until(lambda: gateway.is_over)
        assert gateway.reason == "it went on with the stream that it had left"
        assert sum(len(messages) for messages, _ in gateway.planes._held) < 6000
        assert ("n", {"b": bytes(body_bytes)}) not in pair.gateway.messages


async def test_strangers_take_no_memory_and_no_place() -> None:
    async with express_pair() as pair:
        strangers = []
        try:
            for number in range(300):
                strangers.append(
                    socket.create_connection(
                        ("127.0.0.1", pair.gateway.listener.port),
                        source_address=(f"127.0.0.{2 + number % 8}", 0),
                    )
                )
                strangers[-1].sendall(b"SHX1" + bytes(16))
                await asyncio.sleep(0)
            assert pair.gateway.listener._open <= 256
            assert 0 <= pair.gateway.listener._reading._value <= 64
        finally:
            for stranger in strangers:
                stranger.close()
        await joined(pair)


def test_messages_may_say_more_and_what_they_lack_is_named() -> None:
    place = Place("a", "b", (b"g" * 16, 1))
    ask, offer = Ask((1,), bytes(32), place), Offer(1, bytes(16), bytes(32), 4002, place, bytes(32))
    for made in (ask, offer):
        assert type(made).from_wire({**made.to_wire(), **ADDED}) == made
        for name in made.to_wire():
            fields = {each: value for each, value in made.to_wire().items() if each != name}
            with pytest.raises(KeyError, match=f"'{name}'"):
                type(made).from_wire(fields)


@pytest.mark.parametrize(
    "change",
    [{"eph": b"short"}, {"eph": "text"}, {"suites": 1}, {"suites": [1] * 17}, {"boot": 1},
     {"boot": "x" * 201}, {"session": []}, {"session": [b"g" * 16, 0]}, {"session": [b"g", 1]},
     {"session": [b"g" * 16, True, 0][:1]}],
)  # fmt: skip
def test_an_ask_of_the_wrong_shape_is_refused(change: dict[str, Any]) -> None:
    fields = Ask((1,), bytes(32), Place("a", "b", (b"g" * 16, 1))).to_wire()
    with pytest.raises((TypeError, ValueError)):
        Ask.from_wire({**fields, **change})


@pytest.mark.parametrize(
    "change",
    [{"id": b"short"}, {"port": 0}, {"port": True}, {"port": 65536}, {"ask": b""}, {"suite": "1"},
     {"eph": None}],
)  # fmt: skip
def test_an_offer_of_the_wrong_shape_is_refused(change: dict[str, Any]) -> None:
    place = Place("a", "b", (b"g" * 16, 1))
    fields = Offer(1, bytes(16), bytes(32), 4002, place, bytes(32)).to_wire()
    with pytest.raises((TypeError, ValueError)):
        Offer.from_wire({**fields, **change})


def test_the_kinds_have_the_names_of_the_protocol_page() -> None:
    assert (ASK, OFFER) == ("express_ask", "express_offer")
    assert PROOF_BYTES == _PROOF_BYTES
