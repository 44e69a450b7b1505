"""Frames survive any cutting of the stream, and nothing out of bounds is buffered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.components.sandbox.child.wire import (
    HEADER_BYTES_MAX,
    PREFIX,
    READ_BYTES,
    Decoder,
    Used,
    WireError,
    encode_head,
    encode_header,
)

FRAMES = st.lists(
    st.tuples(
        st.integers(0, 2**32 - 1),
        st.dictionaries(st.text(max_size=5), st.integers() | st.text(), max_size=3),
        st.binary(max_size=300) | st.integers(0, 3 * READ_BYTES).map(bytes),
    ),
    max_size=6,
)


def feed(decoder: Decoder, stream: bytes) -> int:
    with decoder.space() as space:
        size = min(len(space), len(stream))
        assert size > 0
        space[:size] = stream[:size]
    decoder.filled(size)
    return size


@given(FRAMES, st.lists(st.integers(1, 100_000), min_size=1), st.booleans())
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(
    frames: list[tuple[int, dict[str, object], bytes]], cuts: list[int], used_again: bool
) -> None:
    stream = b"".join(
        encode_head(number, encode_header(header), len(body)) + body
        for number, header, body in frames
    )
    decoder, out, at, turn = Decoder(), [], 0, 0
    # A long stream is not fed byte by byte: a million reads show no more than a thousand.
    least = len(stream) // 1000
    while at < len(stream):
        at += feed(decoder, stream[at : at + max(cuts[turn % len(cuts)], least)])
        turn += 1
        while (frame := decoder.take(10 * READ_BYTES)) is not None:
            out.append((frame.number, dict(frame.header), bytes(frame.body)))
            if used_again:
                decoder.give_back(frame.body)
    assert out == frames


@given(st.binary(max_size=200))
def test_noise_is_a_wire_error_or_waits_for_more(noise: bytes) -> None:
    decoder = Decoder()
    if noise:
        feed(decoder, noise)
    try:
        while decoder.take(1000) is not None:
            pass
    except WireError:
        return
    assert len(decoder.space()) > 0


@pytest.mark.parametrize(("header", "body"), [(HEADER_BYTES_MAX + 1, 0), (2, 1001), (2, 2**32 - 1)])
def test_a_size_out_of_bounds_is_refused_from_the_prefix_alone(header: int, body: int) -> None:
    decoder = Decoder()
    feed(decoder, PREFIX.pack(header, body, 1, 0.0, 0.0, -1, -1))
    with pytest.raises(WireError, match="out of bounds"):
        decoder.take(1000)


@pytest.mark.parametrize("header", [b"[]", b"1", b"{", b"\xff", b"[" * 100_000])
def test_a_header_that_is_not_an_object_is_refused(header: bytes) -> None:
    decoder = Decoder()
    stream = PREFIX.pack(len(header), 0, 1, 0.0, 0.0, -1, -1) + header
    while stream:
        stream = stream[feed(decoder, stream) :]
        if stream:
            assert decoder.take(0) is None
    with pytest.raises(WireError):
        decoder.take(0)


def test_a_header_longer_than_the_bound_is_not_sent() -> None:
    with pytest.raises(WireError):
        encode_head(1, bytes(HEADER_BYTES_MAX + 1), 0)


@pytest.mark.parametrize("used", [Used(), Used(0.5, 0.25, 65_536, 12), Used(1e9, 0.0, 0, 2**62)])
def test_what_a_request_used_comes_back(used: Used) -> None:
    decoder = Decoder()
    header = encode_header({"code": "ok"})
    feed(decoder, encode_head(7, header, 0, used))
    assert decoder.next_number == 7
    frame = decoder.take(0)
    assert frame is not None
    assert frame.used == used
    assert decoder.next_number is None


def test_a_large_body_is_read_into_the_buffer_of_the_one_before() -> None:
    decoder = Decoder()
    bodies = []
    for size in (3 * READ_BYTES, 2 * READ_BYTES):
        stream = encode_head(1, b"{}", size) + b"x" * size
        while stream:
            stream = stream[feed(decoder, stream) :]
            frame = decoder.take(size)
        assert frame is not None
        assert frame.body == b"x" * size
        bodies.append(frame.body)
        decoder.give_back(frame.body)
    assert bodies[0] is bodies[1]
