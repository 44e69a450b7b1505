"""Frames between the hub and a sandbox child: a prefix, a JSON header, a raw body.

The prefix has two lengths, a number and what a request used. In the header each of many short
shards would have both sides make and read another JSON text; as it is, equal ones are read once.
"""

import json
import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

# The lengths of header and body, the number; wall and CPU seconds, peak memory and fuel, -1 for
# what nobody measured.
PREFIX = struct.Struct("!IIIddqq")
# Building an encoder costs more than using it.
_ENCODER = json.JSONEncoder(separators=(",", ":"))

# The longest header either side writes is a failure's text plus a few numbers, or a call's
# arguments, environment and script.
HEADER_BYTES_MAX = 768 * 1024
# The largest body of an answer that nobody is woken for.
QUIET_BYTES_MAX = 4 * 1024
# A buffer for small frames; larger allocations would be mapped and unmapped at each read.
READ_BYTES = 64 * 1024
# The largest body whose buffer is kept for the next one.
_SPARE_BYTES_MAX = 4 * 1024 * 1024


class WireError(Exception):
    """The other side sent something that is not a frame within the bounds."""


class Used(NamedTuple):
    """What a request used."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_memory_bytes: int | None = None
    fuel: int | None = None


_NOTHING = Used()


class Frame(NamedTuple):
    """One request or answer; frames with equal headers may share the mapping."""

    number: int
    header: Mapping[str, Any]
    # A large one is the buffer that it was read into, as another copy takes longer than reading it.
    body: bytes | bytearray
    used: Used = _NOTHING


class _Prefix(NamedTuple):
    header_bytes: int
    body_bytes: int
    number: int
    used: Used

    @property
    def body_at(self) -> int:
        """Where its body starts, counted from the start of the frame."""
        return PREFIX.size + self.header_bytes


def encode_header(header: Mapping[str, Any]) -> bytes:
    """Return the header's bytes; shards of the same call use the same ones again."""
    return _ENCODER.encode(header).encode()


def encode_head(number: int, header: bytes, body_bytes: int, used: Used = _NOTHING) -> bytes:
    """Return the prefix and the header; the body follows on the wire unchanged."""
    if len(header) > HEADER_BYTES_MAX:
        raise WireError(f"a header of {len(header)} bytes, more than {HEADER_BYTES_MAX}")
    wall_s, cpu_s, peak, fuel = used
    prefix = PREFIX.pack(
        len(header), body_bytes, number, wall_s, cpu_s,
        -1 if peak is None else peak, -1 if fuel is None else fuel,
    )  # fmt: skip
    return prefix + header


class Decoder:
    """Cuts a byte stream into frames and refuses a size before it is buffered or parsed.

    Bytes are read straight into its buffer, and those of a large body into one of its own size.
    """

    __slots__ = ("_body", "_buffer", "_end", "_prefix", "_read_bytes", "_spare", "_start")

    def __init__(self) -> None:
        self._buffer = bytearray(READ_BYTES)
        # What was read but not yet taken lies between start and end.
        self._start = 0
        self._end = 0
        # A large body that is being read, how much of it there is, and its frame's prefix.
        self._body: bytearray | None = None
        self._read_bytes = 0
        self._prefix = _Prefix(0, 0, 0, _NOTHING)
        self._spare = bytearray()

    @property
    def pending_bytes(self) -> int:
        """How many bytes were read but not yet taken."""
        return self._end - self._start + self._read_bytes

    @property
    def next_number(self) -> int | None:
        """The number of the next frame, None until its prefix is read."""
        if self._body is not None:
            return self._prefix.number
        if self.pending_bytes < PREFIX.size:
            return None
        number: int = PREFIX.unpack_from(self._buffer, self._start)[2]
        return number

    def space(self) -> memoryview:
        """Return where to read next; never empty after `take` returned None."""
        if self._body is not None:
            return memoryview(self._body)[self._read_bytes :]
        return memoryview(self._buffer)[self._end :]

    def filled(self, size_bytes: int) -> None:
        """Note how much was read into the space."""
        if self._body is not None:
            self._read_bytes += size_bytes
        else:
            self._end += size_bytes

    def give_back(self, body: bytes | bytearray) -> None:
        """Read the next large body into this one, whose memory is there already."""
        if isinstance(body, bytearray) and len(body) <= _SPARE_BYTES_MAX:
            self._spare = body

    def take(self, body_bytes_max: int) -> Frame | None:
        """Return the next whole frame, or None until more bytes are read."""
        if self._body is not None:
            return self._take_large()
        have = self.pending_bytes
        if have < PREFIX.size:
            self._await(PREFIX.size)
            return None
        prefix = self._next_prefix()
        if prefix.header_bytes > HEADER_BYTES_MAX or prefix.body_bytes > body_bytes_max:
            raise WireError(
                f"a frame of {prefix.header_bytes} + {prefix.body_bytes} bytes is out of bounds"
            )
        if prefix.body_bytes > READ_BYTES:
            if have < prefix.body_at:
                self._await(prefix.body_at)
                return None
            self._begin_large(prefix)
            return self._take_large()
        total = prefix.body_at + prefix.body_bytes
        if have < total:
            self._await(total)
            return None
        body_at = self._start + prefix.body_at
        header = bytes(self._buffer[self._start + PREFIX.size : body_at])
        body = bytes(self._buffer[body_at : body_at + prefix.body_bytes])
        self._skip(total)
        return Frame(prefix.number, _parse(header), body, prefix.used)

    def _next_prefix(self) -> _Prefix:
        header_bytes, body_bytes, number, wall_s, cpu_s, peak, fuel = PREFIX.unpack_from(
            self._buffer, self._start
        )
        used = Used(wall_s, cpu_s, None if peak < 0 else peak, None if fuel < 0 else fuel)
        return _Prefix(header_bytes, body_bytes, number, used)

    def _begin_large(self, prefix: _Prefix) -> None:
        """Have a body read into a buffer of its own; its header stays at the start of the other."""
        body, self._spare = self._spare, bytearray()
        if len(body) < prefix.body_bytes:
            body = bytearray(prefix.body_bytes)
        del body[prefix.body_bytes :]
        body_at = self._start + prefix.body_at
        have = min(self._end - body_at, prefix.body_bytes)
        body[:have] = self._buffer[body_at : body_at + have]
        # What was read behind this frame, if anything was, is moved to its header.
        rest = self._buffer[body_at + have : self._end]
        self._buffer[body_at : body_at + len(rest)] = rest
        self._end = body_at + len(rest)
        self._prefix, self._body, self._read_bytes = prefix, body, have

    def _take_large(self) -> Frame | None:
        prefix, body = self._prefix, self._body
        if body is None or self._read_bytes < prefix.body_bytes:
            return None
        header = bytes(self._buffer[self._start + PREFIX.size : self._start + prefix.body_at])
        self._body, self._read_bytes = None, 0
        self._skip(prefix.body_at)
        return Frame(prefix.number, _parse(header), body, prefix.used)

    def _skip(self, size_bytes: int) -> None:
        self._start += size_bytes
        if self._start == self._end:
            self._start = self._end = 0
            if len(self._buffer) > READ_BYTES:
                self._buffer = bytearray(READ_BYTES)

    def _await(self, total: int) -> None:
        """Make room for a frame of this size."""
        if len(self._buffer) - self._start >= total:
            return
        # A new buffer instead of a larger one: whoever reads may still hold a view of the old.
        rest = self._buffer[self._start : self._end]
        self._buffer = bytearray(max(total, READ_BYTES))
        self._buffer[: len(rest)] = rest
        self._start, self._end = 0, len(rest)


# The requests for the shards of one call have the same header, and so have answers that say only
# that all went well.
@lru_cache(maxsize=8)
def _parse(header: bytes) -> Mapping[str, Any]:
    try:
        parsed = json.loads(header)
    except (ValueError, RecursionError) as err:
        raise WireError("a header that is not JSON") from err
    if not isinstance(parsed, dict):
        raise WireError("a header that is not a JSON object")
    return parsed
