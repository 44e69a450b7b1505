"""Provider records among real libp2p transports: who is told, who is asked, and what is refused."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from swarm_hub.components.mesh.identity import hearsay_address, peer_id_from_seed
from swarm_hub.components.mesh.transports.base import PROVIDED_MAX
from swarm_hub.components.mesh.transports.libp2p.lean_import import import_kad_dht
from swarm_hub.exceptions import MeshError
from tests.conftest import until
from tests.helpers.transports import (
    Factory,
    Side,
    found,
    run_factory,
    until_found,
)

import_kad_dht()

import multiaddr  # noqa: E402 - only after the lean import
import trio  # noqa: E402
from libp2p.identity_utils import create_identity_from_seed  # noqa: E402
from libp2p.kad_dht.pb.kademlia_pb2 import Message as KadMessage  # noqa: E402
from libp2p.peer.envelope import seal_record  # noqa: E402
from libp2p.peer.id import ID  # noqa: E402
from libp2p.peer.peer_record import PeerRecord  # noqa: E402
from libp2p.peer.peerinfo import PeerInfo  # noqa: E402
from libp2p.peer.peerstore import PeerStore  # noqa: E402

from swarm_hub.components.mesh.transports.libp2p import content_routing as content_module  # noqa: E402
from swarm_hub.components.mesh.transports.libp2p import dht as content_dht  # noqa: E402
from swarm_hub.components.mesh.transports.libp2p.content_routing import ContentRouting, key_of  # noqa: E402

pytestmark = pytest.mark.slow

SHA = "5" * 64
ANYBODY = peer_id_from_seed(bytes(32))


@pytest.fixture
async def make() -> AsyncIterator[Factory]:
    async for factory in run_factory("libp2p"):
        yield factory


def routing(side: Side) -> ContentRouting:
    node: Any = side.transport
    made = node._host.content
    assert isinstance(made, ContentRouting)
    return made


async def in_trio(side: Side, function: Any, *args: Any) -> Any:
    """Await an async function in the side's trio thread."""
    transport: Any = side.transport
    return await transport._bridge.call(function, *args)


async def sides(make: Factory, count: int) -> list[Side]:
    return [await make(content=True) for _ in range(count)]


async def knows(side: Side, sha: str = SHA) -> set[str]:
    """Return the providers that a side was told of."""

    async def read() -> set[str]:
        return set(routing(side)._records.providers.get(key_of(sha), {}))

    found: set[str] = await in_trio(side, read)
    return found


# Telling


async def test_a_peer_that_comes_later_is_told_what_is_provided_already(make: Factory) -> None:
    a, b, c = await sides(make, 3)
    await a.transport.provide(SHA)
    await a.transport.dial(b.address)
    await c.transport.dial(b.address)
    await until_found(c, [a.peer_id])


async def test_a_peer_that_restarts_and_has_forgotten_everything_is_told_again(
    make: Factory,
) -> None:
    seed = os.urandom(32)
    b = await make(seed, content=True)
    a, c = await sides(make, 2)
    await a.transport.dial(b.address)
    await a.transport.provide(SHA)
    await until(lambda: knows(b), lambda told: a.peer_id in told)
    await b.transport.stop()
    b = await make(seed, content=True)
    assert await knows(b) == set()
    for side in (a, c):
        await side.until(lambda side=side: not side.live())  # type: ignore[misc]
        await side.transport.dial(b.address)
    await until_found(c, [a.peer_id])


async def test_a_record_is_announced_again_before_it_is_forgotten(
    make: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_module, "_REPROVIDE_S", 0.2)
    monkeypatch.setattr(content_module, "_LOOK_EVERY_S", 0.1)
    a, b = await sides(make, 2)
    await a.transport.dial(b.address)
    await a.transport.provide(SHA)
    await until(lambda: knows(b), bool)

    async def expire() -> None:
        routing(b)._records.providers[key_of(SHA)][a.peer_id].timestamp = 1.0
        routing(b)._records.cleanup_expired()

    await in_trio(b, expire)
    await until(lambda: knows(b), bool)


async def test_what_was_withdrawn_is_not_announced_to_those_who_come(make: Factory) -> None:
    a, b = await sides(make, 2)
    other = "7" * 64
    await a.transport.provide(SHA)
    await a.transport.provide(other)
    await a.transport.withdraw(SHA)
    await a.transport.dial(b.address)
    await until_found(b, [a.peer_id], other)
    assert await knows(b) == set()


async def test_a_side_provides_no_more_than_others_keep(make: Factory) -> None:
    (a,) = await sides(make, 1)
    for number in range(PROVIDED_MAX):
        await a.transport.provide(f"{number:064x}")
    with pytest.raises(MeshError, match=str(PROVIDED_MAX)):
        await a.transport.provide(SHA)
    await a.transport.withdraw(f"{0:064x}")
    await a.transport.provide(SHA)


# Asking


async def test_peers_that_are_not_connected_are_reached_through_those_that_are(
    make: Factory,
) -> None:
    """A line of four: the second was told by the first, and the fourth only knows the third."""
    a, b, c, d = await sides(make, 4)
    for one, next_one in ((a, b), (b, c), (c, d)):
        await one.transport.dial(next_one.address)
    await a.transport.provide(SHA)
    await until_found(d, [a.peer_id])


async def test_a_frozen_peer_holds_a_search_up_only_briefly(
    make: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, frozen = await sides(make, 3)
    for other in (a, frozen):
        await other.transport.dial(b.address)
    await a.transport.provide(SHA)
    await until_found(b, [a.peer_id])

    async def never(_stream: object) -> None:
        await trio.sleep_forever()

    async def freeze() -> None:
        routing(frozen)._dht._do_handle_stream = never  # type: ignore[method-assign]

    await in_trio(frozen, freeze)
    # Long enough for an honest peer of a busy machine, and far below what ends the whole search.
    monkeypatch.setattr(content_module, "_ASK_TIMEOUT_S", 2.0)
    monkeypatch.setattr(content_module, "_WALK_TIMEOUT_S", 120.0)
    async with asyncio.timeout(60):
        assert await found(b) == [a.peer_id]
        assert await found(b, "6" * 64) == []


# Refusing


async def test_nobody_can_store_a_value(make: Factory) -> None:
    a, b = await sides(make, 2)
    await a.transport.dial(b.address)
    message = KadMessage()
    message.type = KadMessage.MessageType.PUT_VALUE
    message.key = message.record.key = b"/pk/anything"
    message.record.value = b"x" * 1000
    assert await in_trio(a, exchanged, routing(a), ID.from_string(b.peer_id), message) == b""
    assert routing(b)._dht.value_store.size() == 0


async def test_a_record_about_somebody_else_is_not_believed(make: Factory) -> None:
    a, b = await sides(make, 2)
    await a.transport.dial(b.address)
    message = KadMessage()
    message.type = KadMessage.MessageType.ADD_PROVIDER
    message.key = key_of(SHA)
    provider = message.providerPeers.add()
    provider.id = ID.from_string(ANYBODY).to_bytes()
    provider.addrs.append(multiaddr.Multiaddr("/ip4/127.0.0.1/tcp/9").to_bytes())
    await in_trio(a, exchanged, routing(a), ID.from_string(b.peer_id), message)
    assert await knows(b) == set()
    assert await found(b) == []


async def test_a_message_beyond_any_use_is_refused_unread(make: Factory) -> None:
    a, b = await sides(make, 2)
    await a.transport.dial(b.address)
    message = KadMessage()
    message.type = KadMessage.MessageType.GET_PROVIDERS
    message.key = bytes(100_000)
    assert await in_trio(a, exchanged, routing(a), ID.from_string(b.peer_id), message) == b""


async def test_a_peer_that_opens_many_streams_gets_two(make: Factory) -> None:
    a, b = await sides(make, 2)
    await a.transport.dial(b.address)
    peer = ID.from_string(b.peer_id)
    await until(lambda: streams_refused(a, peer, 6), lambda refused: refused == 4)


async def test_a_peer_that_asks_without_end_is_answered_at_a_bounded_rate(make: Factory) -> None:
    a, b = await sides(make, 2)
    await a.transport.dial(b.address)
    ping = KadMessage()
    ping.type = KadMessage.MessageType.PING
    ping.key = bytes(1000)
    seconds = 3.0

    async def ask() -> int:
        answers = bytearray()
        stream = await routing(a)._host.new_stream(ID.from_string(b.peer_id))

        async def write() -> None:
            while True:
                await stream.write(framed(ping) * 10)

        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(write)
                while True:
                    answers += await stream.read(4096)
        return len(answers) // len(framed(PONG))

    asked_bytes = await in_trio(a, ask) * len(framed(ping))
    burst_s = 2.0
    assert 0 < asked_bytes < content_dht._BYTES_PER_S * (seconds + burst_s) * 1.25


PONG = KadMessage(type=KadMessage.MessageType.PING)


def framed(message: KadMessage) -> bytes:
    """Return a message behind its length."""
    raw = message.SerializeToString()
    size, head = len(raw), bytearray()
    while size >= 0x80:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*head, size]) + raw


async def exchanged(routing: ContentRouting, peer: ID, message: KadMessage) -> bytes:
    """Send a message to a peer and return the beginning of its answer."""
    stream = await routing._host.new_stream(peer)
    try:
        with trio.fail_after(5):
            await stream.write(framed(message))
            return await stream.read(1)
    # A stream that was reset.
    except Exception:
        return b""


async def streams_refused(side: Side, peer: ID, count: int) -> int:
    async def refused() -> int:
        ended = 0

        async def listen() -> None:
            """Hold a stream open until the other side ends it, at once or later."""
            nonlocal ended
            with contextlib.suppress(Exception):
                stream = await routing(side)._host.new_stream(peer)
                try:
                    await stream.read(1)
                finally:
                    with trio.CancelScope(shield=True):
                        await stream.reset()
            ended += 1

        with trio.move_on_after(1):
            async with trio.open_nursery() as nursery:
                for _ in range(count):
                    nursery.start_soon(listen)
        return ended

    refusals: int = await in_trio(side, refused)
    return refusals


# What is different from libp2p 0.8.1


def address_records() -> tuple[Any, Any]:
    """Return an older and a newer signed record of the addresses of one peer."""
    keys = create_identity_from_seed(bytes(32))
    older, newer = (
        seal_record(
            PeerRecord(ID.from_string(ANYBODY), [multiaddr.Multiaddr(text)], seq),
            keys.private_key,
        )
        for seq, text in ((1, "/ip4/192.168.1.20/tcp/1"), (2, "/ip4/192.168.1.20/tcp/2"))
    )
    return older, newer


@pytest.mark.parametrize(
    ("store", "accepted"), [(PeerStore, False), (content_dht._NewestRecords, True)]
)
def test_an_older_record_is_not_forged_as_the_library_thinks(
    store: type[PeerStore], accepted: bool
) -> None:
    older, newer = address_records()
    kept = store()
    assert kept.consume_peer_record(newer, 60)
    assert kept.consume_peer_record(older, 60) is accepted
    assert [str(each) for each in kept.addrs(ID.from_string(ANYBODY))] == [
        "/ip4/192.168.1.20/tcp/2"
    ]


# Bounds


class Nobody:
    def get_id(self) -> ID:
        return ID.from_string(ANYBODY)


def peer(number: int) -> PeerInfo:
    return PeerInfo(ID.from_string(peer_id_from_seed(number.to_bytes(32, "big"))), [])


def keys_of(records: content_dht.BoundedRecords, who: PeerInfo) -> list[bytes]:
    return [key for key, kept in records.providers.items() if str(who.peer_id) in kept]


def test_a_peer_that_says_to_have_everything_loses_its_oldest_records() -> None:
    records = content_dht.BoundedRecords(Nobody())
    honest, flooder = peer(1), peer(2)
    records.add_provider(b"honest", honest)
    for number in range(PROVIDED_MAX + 5):
        records.add_provider(b"%d" % number, flooder)
    assert len(keys_of(records, flooder)) == PROVIDED_MAX
    assert b"4" not in records.providers
    assert keys_of(records, honest) == [b"honest"]


def test_many_that_flood_do_not_wash_out_one_that_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(content_dht, "_RECORDS_MAX", 100)
    records = content_dht.BoundedRecords(Nobody())
    honest = peer(1)
    records.add_provider(b"honest", honest)
    for number in range(500):
        records.add_provider(b"%d" % number, peer(2 + number % 10))
    assert sum(map(len, records.providers.values())) == 100
    assert keys_of(records, honest) == [b"honest"]


def test_the_same_record_again_takes_no_more_room() -> None:
    records = content_dht.BoundedRecords(Nobody())
    for _ in range(3 * PROVIDED_MAX):
        records.add_provider(b"key", peer(1))
    assert records._count == 1
    records.providers[b"key"][str(peer(1).peer_id)].timestamp = 1.0
    records.cleanup_expired()
    assert (records._count, records.providers, records._keys) == (0, {}, {})


ADDRESSES: Sequence[tuple[str, bool]] = [
    ("/ip4/192.168.1.20/tcp/4001", True),
    ("/ip4/8.8.8.8/tcp/4001", True),
    ("/ip6/2001:db8::1/tcp/4001", True),
    (f"/ip4/192.168.1.20/tcp/4001/p2p/{ANYBODY}", True),
    (f"/ip4/192.168.1.20/tcp/4001/p2p/{peer_id_from_seed(b'1' * 32)}", False),
    ("/ip4/127.0.0.1/tcp/4001", False),
    ("/ip6/::1/tcp/4001", False),
    ("/ip6/::ffff:127.0.0.1/tcp/4001", False),
    ("/ip4/169.254.169.254/tcp/80", False),
    ("/ip6/fe80::1/tcp/4001", False),
    ("/ip6/::ffff:169.254.169.254/tcp/80", False),
    ("/ip4/0.0.0.0/tcp/4001", False),
    ("/ip4/224.0.0.1/tcp/4001", False),
    ("/ip4/192.168.1.20/tcp/0", False),
    ("/ip4/192.168.1.20/udp/4001/quic-v1", False),
    ("/dns4/inside.example/tcp/4001", False),
    ("/memory/0", False),
    ("", False),
]


@pytest.mark.parametrize(("text", "good"), ADDRESSES)
def test_only_addresses_of_other_devices_are_dialled_on_hearsay(text: str, good: bool) -> None:
    address = hearsay_address(text, ANYBODY, loopback_too=False)
    assert (address is not None) is good
    if address is not None:
        assert address.peer_id == ANYBODY


def test_a_hub_that_is_reached_on_its_own_device_only_looks_there() -> None:
    assert hearsay_address("/ip4/127.0.0.1/tcp/4001", ANYBODY, loopback_too=True) is not None
    assert hearsay_address("/ip4/169.254.169.254/tcp/80", ANYBODY, loopback_too=True) is None


def test_the_key_is_the_multihash_of_the_blob() -> None:
    assert key_of(SHA).hex() == "1220" + SHA
