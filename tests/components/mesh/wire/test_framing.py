"""Frames: what is accepted, what is refused, and that nothing else happens."""

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_hub.components.mesh.wire.framing import (
    COALESCE_BYTES,
    FrameDecoder,
    FrameError,
    decode_messages,
    encode_frame,
    encode_message,
    frame_overhead_bytes,
    join_messages,
)
from swarm_hub.components.mesh.wire.limits import QueueFull, TransportLimits
from swarm_hub.components.mesh.wire.send_queue import SendQueue

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
messages = st.tuples(
    st.text(min_size=1, max_size=20), st.dictionaries(st.text(max_size=10), values, max_size=4)
)


def deep(levels: int) -> bytes:
    return b"\x81" * levels + b"\x00"


@pytest.mark.slow
@given(st.lists(st.lists(messages, min_size=1, max_size=3), max_size=3), st.data())
@settings(max_examples=50)
def test_messages_survive_however_the_bytes_are_cut(
    frames: list[list[tuple[str, dict[str, object]]]], data: st.DataObject
) -> None:
    wire = b"".join(encode_frame([encode_message(*one) for one in frame]) for frame in frames)
    decoder, received = FrameDecoder(), []
    while wire:
        size = data.draw(st.integers(1, len(wire)))
        received += decoder.feed(wire[:size])
        wire = wire[size:]
    assert received == [one for frame in frames for one in frame]
    assert decoder.buffered_bytes == 0


@given(st.binary(max_size=200))
@settings(max_examples=500)
def test_any_bytes_are_messages_or_a_frame_error(body: bytes) -> None:
    try:
        decoded = decode_messages(body)
    except FrameError:
        return
    assert decoded
    assert all(isinstance(kind, str) and isinstance(fields, dict) for kind, fields in decoded)


@given(st.lists(messages, min_size=1, max_size=3), st.data())
@settings(max_examples=100)
def test_a_damaged_frame_is_messages_or_a_frame_error(
    sent: list[tuple[str, dict[str, object]]], data: st.DataObject
) -> None:
    body = bytearray(join_messages([encode_message(*one) for one in sent]))
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        decode_messages(bytes(body))
    except FrameError:
        return


@pytest.mark.parametrize("count", [1, 23, 24, 255, 256, 65_535, 65_536])
def test_a_frame_holds_any_number_of_messages(count: int) -> None:
    message = encode_message("n", {})
    frame = encode_frame([message] * count)
    assert len(frame) == frame_overhead_bytes(count) + count * len(message)
    assert len(FrameDecoder().feed(frame)) == count


def test_a_message_is_encoded_once_and_put_into_the_frame_as_it_is() -> None:
    message = encode_message("hello", {"a": 1})
    assert cbor2.loads(encode_frame([message, message])[4:]) == [["hello", {"a": 1}]] * 2


def test_the_length_is_checked_before_the_body_arrives() -> None:
    decoder = FrameDecoder(max_frame_bytes=1000)
    with pytest.raises(FrameError, match="1001 bytes; at most 1000"):
        decoder.feed((1001).to_bytes(4, "big"))


def test_a_frame_of_exactly_the_limit_is_accepted() -> None:
    message = encode_message("n", {"body": b"x" * 500})
    decoder = FrameDecoder(max_frame_bytes=len(message) + 1)
    assert len(decoder.feed(encode_frame([message]))) == 1


@given(messages, st.lists(values, max_size=3))
def test_what_stands_behind_the_fields_is_of_a_later_version(
    message: tuple[str, dict[str, object]], later: list[object]
) -> None:
    assert decode_messages(cbor2.dumps([[*message, *later]])) == [message]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "not valid CBOR"),
        (b"\xff", "not valid CBOR"),
        (b"\x80", "not an array"),
        (b"\x01", "not an array"),
        (cbor2.dumps({"kind": "a"}), "not an array"),
        (cbor2.dumps(["a", {}]), r"not \[kind, fields\]"),
        (cbor2.dumps([["a"]]), r"not \[kind, fields\]"),
        (cbor2.dumps([["a", 1, {}]]), "not a map with text keys"),
        (cbor2.dumps([[1, {}]]), "kind is not a short text"),
        (cbor2.dumps([["", {}]]), "kind is not a short text"),
        (cbor2.dumps([["k" * 65, {}]]), "kind is not a short text"),
        (cbor2.dumps([["a", []]]), "not a map with text keys"),
        (cbor2.dumps([["a", {b"x": 1}]]), "not a map with text keys"),
        (cbor2.dumps([["a", {1: 1}]]), "not valid CBOR"),
        (cbor2.dumps([["a", {}]]) + b"\x00", "bytes after"),
        (b"\x9f\x82\x61a\xa0\xff", "not valid CBOR"),
        (b"\x81\x82\x61a\xbf\xff", "not valid CBOR"),
        (b"\x81\x82\x61a\xa1\x61x\x5f\x41a\xff", "not valid CBOR"),
        (b"\x81\x82\x61a\xa2\x61x\x01\x61x\x02", "not valid CBOR"),
        (b"\x81\x82\x61a\xa1\x61x" + deep(20), "not valid CBOR"),
        (deep(100_000), "not valid CBOR"),
        (b"\x9a\xff\xff\xff\xff", "not valid CBOR"),
        (b"\x9b" + b"\xff" * 8, "not valid CBOR"),
        (b"\x5b" + b"\xff" * 8, "not valid CBOR"),
        (b"\x81\x82\x61a\xa1\x61x" + cbor2.dumps(2**70), "not valid CBOR"),
        (b"\x81\x82\x61a\xa1\x61x\xd8\x1c\x81\xd8\x1d\x00", "not valid CBOR"),
        (b"\x81\x82\x61a\xa1\x61x\xd8\x23\x63a+b", "not valid CBOR"),
        (b"\x81\x82\x61a\xa1\x61x\xd9\x77\x77\x00", "not valid CBOR"),
    ],
)
def test_a_body_of_the_wrong_shape_is_refused(body: bytes, complaint: str) -> None:
    with pytest.raises(FrameError, match=complaint):
        decode_messages(body)


# The outbox


def taken(outbox: SendQueue) -> list[list[str]]:
    """The kinds of the messages of each frame."""
    frames = []
    while (frame := outbox.next_frame()) is not None:
        frames.append([kind for kind, _ in FrameDecoder().feed(frame)])
    return frames


def test_control_messages_share_a_frame_and_go_before_bulk() -> None:
    outbox = SendQueue("peer", TransportLimits())
    assert outbox.try_put_bulk(encode_message("bulk-1", {}))
    assert outbox.try_put_bulk(encode_message("bulk-2", {}))
    outbox.put_control(encode_message("a", {}))
    outbox.put_control(encode_message("b", {}))
    assert taken(outbox) == [["a", "b"], ["bulk-1"], ["bulk-2"]]
    assert outbox.queued_bytes == 0


def test_a_shared_frame_stays_small() -> None:
    outbox = SendQueue("peer", TransportLimits())
    for _ in range(100):
        outbox.put_control(encode_message("n", {"body": b"x" * 5000}))
    outbox.put_control(encode_message("large", {"body": b"x" * 500_000}))
    sizes = []
    while (frame := outbox.next_frame()) is not None:
        sizes.append(len(frame))
    assert max(sizes[:-1]) <= COALESCE_BYTES + 10
    assert sizes[-1] > 500_000


def test_the_queues_share_one_bound_and_bulk_fills_half_of_it() -> None:
    message = encode_message("n", {"body": b"x" * 400})
    outbox = SendQueue("peer", TransportLimits(max_queue_bytes=4 * len(message)))
    assert outbox.try_put_bulk(message)
    assert outbox.try_put_bulk(message)
    assert not outbox.try_put_bulk(message)
    outbox.put_control(message)
    outbox.put_control(message)
    with pytest.raises(QueueFull):
        outbox.put_control(message)
    outbox.discard_bulk()
    outbox.put_control(message)
