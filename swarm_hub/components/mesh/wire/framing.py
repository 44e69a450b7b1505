"""Frames: a length and a CBOR array of messages, bounded before anything is parsed."""

from collections.abc import Mapping, Sequence
from typing import Any

from swarm_hub.components.mesh.wire.kinds import Message
from swarm_hub.components.mesh.wire.limits import MIB
from swarm_hub.exceptions import MeshError
from swarm_hub.util.strict_cbor import parse_cbor, to_cbor

LENGTH_BYTES = 4
# A frame that carries several control messages stays near one yamux frame (64 KiB).
COALESCE_BYTES = 60_000

_MAX_KIND_LENGTH = 64


class FrameError(MeshError):
    """What a peer sent is not a frame of this protocol."""


def encode_message(kind: str, fields: Mapping[str, Any]) -> bytes:
    """Encode one message; this happens once, whoever it is sent to."""
    return to_cbor([kind, fields])


def join_messages(messages: Sequence[bytes]) -> bytes:
    """Put encoded messages into one CBOR array without encoding them again."""
    return b"".join((_array_head(len(messages)), *messages))


def encode_frame(messages: Sequence[bytes]) -> bytes:
    """Put encoded messages into one frame without encoding them again."""
    body = join_messages(messages)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def frame_overhead_bytes(count: int) -> int:
    """How many bytes a frame of `count` messages adds to them."""
    return LENGTH_BYTES + len(_array_head(count))


class FrameDecoder:
    """Takes bytes as they are read and returns the messages that are complete."""

    def __init__(self, max_frame_bytes: int = MIB) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._buffer = bytearray()

    @property
    def buffered_bytes(self) -> int:
        """Bytes of a frame that is not complete yet."""
        return len(self._buffer)

    def feed(self, received: bytes) -> list[Message]:
        """Add bytes and return every message now complete; raises `FrameError`."""
        self._buffer += received
        messages: list[Message] = []
        start = 0
        while len(self._buffer) - start >= LENGTH_BYTES:
            end = start + LENGTH_BYTES + self._frame_length(start)
            if len(self._buffer) < end:
                break
            messages.extend(decode_messages(bytes(self._buffer[start + LENGTH_BYTES : end])))
            start = end
        del self._buffer[:start]
        return messages

    def _frame_length(self, start: int) -> int:
        length = int.from_bytes(self._buffer[start : start + LENGTH_BYTES], "big")
        if length > self._max_frame_bytes:
            raise FrameError(
                f"a frame of {length} bytes; at most {self._max_frame_bytes} are accepted"
            )
        return length


def decode_messages(body: bytes) -> list[Message]:
    """Decode an array of messages; raises `FrameError` for anything unexpected."""
    try:
        content = parse_cbor(body)
    except ValueError as error:
        raise FrameError(f"a frame that can't be read: {error}") from error
    if not isinstance(content, list) or not content:
        raise FrameError("a frame that is not an array of messages")
    return [_checked(entry) for entry in content]


def _checked(entry: object) -> Message:
    # Anything after the fields comes from a later version.
    if not isinstance(entry, list) or len(entry) < 2:
        raise FrameError("a message that is not [kind, fields]")
    kind, fields = entry[0], entry[1]
    if not isinstance(kind, str) or not 0 < len(kind) <= _MAX_KIND_LENGTH:
        raise FrameError("a message whose kind is not a short text")
    if not isinstance(fields, dict) or not all(isinstance(key, str) for key in fields):
        raise FrameError(f"a message {kind!r} whose fields are not a map with text keys")
    return kind, fields


def _array_head(count: int) -> bytes:
    if count < 24:
        return bytes((0x80 | count,))
    if count < 0x100:
        return bytes((0x98, count))
    if count < 0x10000:
        return b"\x99" + count.to_bytes(2, "big")
    return b"\x9a" + count.to_bytes(4, "big")
