"""How much a peer may send: counted from bytes alone, slowed at its bound, let go if it goes on."""

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import AsyncIterator

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.components.mesh.transports.libp2p.metering import Meters
from swarm_hub.components.mesh.wire.framing import decode_messages, encode_frame, encode_message
from swarm_hub.components.mesh.wire.limits import MIB, TransportLimits
from swarm_hub.components.mesh.wire.metering import (
    Allowance,
    FloodError,
    FrameCounter,
    Meter,
    MeterTable,
)
from swarm_hub.components.mesh.wire.traffic import TRAFFIC
from swarm_hub.exceptions import MeshError
from swarm_hub.util.token_bucket import TokenBucket
from tests.helpers.transports import (
    Factory,
    connected,
    numbered,
    run_factory,
)

pytestmark = pytest.mark.slow

KIND = encode_message("heartbeat", {"t": 1.0})
PATIENT = Allowance(1000, 1e6, burst_s=2.0, patience_s=5.0)


@pytest.fixture
async def make_libp2p() -> AsyncIterator[Factory]:
    async for factory in run_factory("libp2p"):
        yield factory


def counted(chunks: list[bytes]) -> int:
    counter = FrameCounter()
    return sum(counter(chunk) for chunk in chunks)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=5),
    st.lists(st.integers(0, 100_000), max_size=20),
)
def test_the_messages_of_frames_are_counted_however_they_are_cut(
    sizes: list[int], places: list[int]
) -> None:
    data = b"".join(encode_frame([KIND] * size) for size in sizes)
    assert counted(cut(data, places)) == sum(sizes)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=10))
def test_whatever_a_peer_sends_is_counted_without_an_error(data: bytes, places: list[int]) -> None:
    assert 0 <= counted(cut(data, places)) == counted([data])


def test_a_frame_that_claims_more_messages_than_it_has_room_for_counts_what_could_be() -> None:
    body = b"\x9a\xff\xff\xff\xff" + KIND
    assert counted([len(body).to_bytes(4, "big") + body]) == len(body) // 4
    with pytest.raises(Exception, match="not valid CBOR"):
        decode_messages(body)


def test_a_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    bucket = TokenBucket(per_s=100, burst_s=2, now=0.0)
    bucket.take(200, 0.0)
    assert bucket.debt_s(0.0) == 0
    bucket.take(50, 0.0)
    assert bucket.debt_s(0.0) == pytest.approx(0.5)
    assert bucket.debt_s(0.5) == pytest.approx(0)
    assert not bucket.is_ample(1.4)
    assert bucket.is_ample(1.5)
    bucket.take(200, 100.0)
    assert bucket.debt_s(100.0) == pytest.approx(0)


@pytest.mark.parametrize(("messages", "size_bytes"), [(20_000, 30 * 20_000), (25, 100_000_000)])
def test_an_honest_fast_peer_never_waits(messages: int, size_bytes: int) -> None:
    """20,000 messages a second for a minute, and 100 MB at once and again every second."""
    limits = TransportLimits()
    meter = Meter(Allowance(limits.max_messages_per_s, limits.max_bytes_per_s), 0.0)
    for second in range(60):
        assert meter.wait_s(float(second)) == 0
        meter.charge(messages, size_bytes, float(second))


def test_a_peer_over_its_rate_waits_and_only_one_that_goes_on_is_a_flood() -> None:
    meter, now = Meter(PATIENT, 0.0), 0.0
    # A burst of three times what it may send at once costs it seconds of waiting, no more.
    meter.charge(6000, 0, now)
    assert meter.wait_s(now) == pytest.approx(4.0)
    now += 4.0
    assert meter.wait_s(now) == 0
    now += 1.1
    assert meter.wait_s(now) == 0

    def go_on(now: float) -> None:
        for _ in range(1000):
            meter.charge(2000, 0, now)
            now += meter.wait_s(now)

    with pytest.raises(FloodError, match="more than 1000 messages or 1 MB a second for 5 s"):
        go_on(now)


def test_a_peer_that_comes_back_has_not_got_a_new_burst() -> None:
    meters = MeterTable(PATIENT)
    first = meters.of("peer", 0.0)
    assert meters.of("peer", 0.0) is first
    assert meters.of("other", 0.0) is not first
    for number in range(3000):
        meters.of(str(number), 0.0)
    assert len(meters._meters) <= 2048


def test_the_streams_of_a_peer_share_a_meter() -> None:
    async def main() -> None:
        meters = Meters(PATIENT, lambda *_: None)
        first = meters.metered(None, "peer", FrameCounter())
        again = meters.metered(None, "peer", FrameCounter())
        assert first._meter is again._meter

    trio.run(main)


async def test_a_fast_peer_passes_at_full_speed(make_libp2p: Factory) -> None:
    a, b = await connected(make_libp2p)
    began = time.monotonic()
    frame = encode_message("n", {"n": 1})
    for _ in range(20):
        for _ in range(1000):
            b.send(a.peer_id, frame)
        await asyncio.sleep(0.02)
    await a.until(lambda: len(a.messages()) == 20_000, "all messages")
    assert time.monotonic() - began < 10
    assert a.reasons() == []


async def test_what_a_connection_moves_is_counted(make_libp2p: Factory) -> None:
    a, b = await connected(make_libp2p)
    before = TRAFFIC.connections_bytes
    for number in range(16):
        await b.send_bulk(a.peer_id, numbered("bulk", number, size=60 * 1024))
    await a.until(lambda: len(a.messages("bulk")) == 16)
    # Both sides are of this process, so it sent and received all of it.
    moved = TRAFFIC.connections_bytes - before
    assert 2 * 16 * 60 * 1024 < moved < 2.2 * 16 * 60 * 1024


async def test_a_flooding_peer_is_slowed_then_let_go_with_a_reason(make_libp2p: Factory) -> None:
    slow = TransportLimits(max_messages_per_s=500, flood_patience_s=1.0)
    a = await make_libp2p(limits=slow)
    b = await make_libp2p()
    await b.transport.dial(a.address)
    frame = numbered("n", 1, size=200)
    began = time.monotonic()
    while not b.reasons():
        assert time.monotonic() - began < 20
        if b.live():
            for _ in range(100):
                b.send(a.peer_id, frame)
        await asyncio.sleep(0.01)
    # Of ten thousand a second it read the burst, the rate, and once what came in one read.
    assert len(a.messages()) < 500 * (2 + time.monotonic() - began) + 2000
    assert b.reasons()[0].startswith("the peer said: flooding: more than 500 messages")
    await a.until(lambda: a.floods)
    assert a.floods == [b.peer_id]


async def test_bulk_beyond_the_rate_is_slowed_and_arrives(make_libp2p: Factory) -> None:
    a = await make_libp2p(limits=TransportLimits(max_bytes_per_s=2 * MIB))
    b = await make_libp2p()
    await b.transport.dial(a.address)
    began = time.monotonic()
    for number in range(128):
        await b.send_bulk(a.peer_id, numbered("bulk", number, size=60 * 1024))
    await a.until(lambda: len(a.messages("bulk")) == 128)
    assert time.monotonic() - began > 1
    assert (a.reasons(), a.floods) == ([], [])


async def test_one_peer_id_has_a_bounded_number_of_connections(make_libp2p: Factory) -> None:
    a = await make_libp2p(limits=TransportLimits(max_connections_per_peer=1))
    seed = os.urandom(32)
    first, twin = await make_libp2p(seed), await make_libp2p(seed)
    await first.transport.dial(a.address)
    with pytest.raises(MeshError):
        await twin.transport.dial(a.address)
    assert a.live() == {first.peer_id}
    await first.disconnect(a.peer_id, "bye")
    await a.until(lambda: not a.live())
    await twin.transport.dial(a.address)
    await a.until(lambda: a.live() == {twin.peer_id})


async def test_one_address_has_a_bounded_number_of_connections(make_libp2p: Factory) -> None:
    a = await make_libp2p(limits=TransportLimits(max_connections_per_ip=3))
    dialled = [await make_libp2p() for _ in range(3)]
    for side in dialled:
        await side.transport.dial(a.address)
    fourth = await make_libp2p()
    with pytest.raises(MeshError, match="cannot dial"):
        await fourth.transport.dial(a.address)
    await dialled[0].transport.stop()
    await a.until(lambda: len(a.live()) == 2)

    deadline = time.monotonic() + 10
    while fourth.peer_id not in a.live():
        assert time.monotonic() < deadline
        with contextlib.suppress(MeshError):
            await fourth.transport.dial(a.address)
        await asyncio.sleep(0.05)
