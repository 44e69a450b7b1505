"""CBOR in pure Python, for devices that cbor2 has no wheel for: the values of the protocol only.

It writes what cbor2 writes, byte for byte, and reads what `strict_cbor` lets cbor2 read; both are
held against each other in tests/util/test_pure_cbor.py. Two to seven times slower than cbor2.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP = range(6)
_SIMPLE: Final = 7
# Nothing of the protocol nests a tenth as deep.
_ENCODE_DEPTH_MAX: Final = 200
_HALF, _SINGLE, _DOUBLE = 25, 26, 27
_FLOATS: Final = {
    _HALF: struct.Struct(">e"),
    _SINGLE: struct.Struct(">f"),
    _DOUBLE: struct.Struct(">d"),
}
_CONSTANTS: Final = {20: False, 21: True, 22: None}


@dataclass(frozen=True, slots=True)
class SimpleValue:
    """A simple value without a meaning here, or `undefined` (23): kept apart from every other."""

    value: int


def dumps(value: object, *, canonical: bool = False) -> bytes:
    """Encode a value; `canonical` sorts keys by their encoding and shortens floats.

    Raises ValueError for a value that the protocol has no place for.
    """
    out = bytearray()
    _encode(value, out, canonical, 0)
    return bytes(out)


def loads(raw: bytes, max_depth: int) -> Any:
    """Decode the one value that makes up all of `raw`; raises ValueError."""
    value, end = _decode(raw, 0, max_depth)
    if end != len(raw):
        raise ValueError("bytes after its end")
    return value


def _encode(value: object, out: bytearray, canonical: bool, depth: int) -> None:
    if depth > _ENCODE_DEPTH_MAX:
        raise ValueError(f"can't encode more than {_ENCODE_DEPTH_MAX} levels")
    if isinstance(value, str):
        text = value.encode()
        _head(_TEXT, len(text), out)
        out += text
    elif value is None:
        out.append(0xF6)
    elif isinstance(value, bool):
        out.append(0xF5 if value else 0xF4)
    elif isinstance(value, int):
        major, number = (_UNSIGNED, value) if value >= 0 else (_NEGATIVE, -1 - value)
        _head(major, number, out)
    elif isinstance(value, bytes | bytearray):
        _head(_BYTES, len(value), out)
        out += value
    elif isinstance(value, float):
        _float(value, out, canonical)
    elif isinstance(value, list | tuple):
        _head(_ARRAY, len(value), out)
        for each in value:
            _encode(each, out, canonical, depth + 1)
    elif isinstance(value, Mapping):
        _head(_MAP, len(value), out)
        _entries(value, out, canonical, depth + 1)
    else:
        raise ValueError(f"can't encode {type(value).__name__}")


def _entries(entries: Mapping[Any, object], out: bytearray, canonical: bool, depth: int) -> None:
    if not canonical:
        for key, value in entries.items():
            _encode(key, out, canonical, depth)
            _encode(value, out, canonical, depth)
        return
    encoded = [(dumps(key, canonical=True), value) for key, value in entries.items()]
    # Shorter keys first, as cbor2 has it from RFC 7049; with keys of one kind and below 24 bytes,
    # as all of the protocol are, this is also the order of RFC 8949.
    for raw, value in sorted(encoded, key=lambda entry: (len(entry[0]), entry[0])):
        out += raw
        _encode(value, out, canonical, depth)


def _head(major: int, number: int, out: bytearray) -> None:
    if number < 24:
        out.append(major << 5 | number)
    elif number < 1 << 8:
        out += bytes((major << 5 | 24, number))
    elif number < 1 << 16:
        out.append(major << 5 | 25)
        out += number.to_bytes(2, "big")
    elif number < 1 << 32:
        out.append(major << 5 | 26)
        out += number.to_bytes(4, "big")
    elif number < 1 << 64:
        out.append(major << 5 | 27)
        out += number.to_bytes(8, "big")
    else:
        raise ValueError("can't encode an integer beyond 64 bits")


def _float(value: float, out: bytearray, canonical: bool) -> None:
    if value != value:
        out += b"\xf9\x7e\x00"
        return
    for kind in (_HALF, _SINGLE):
        # cbor2 shortens the infinities in any case.
        if not canonical and value not in (float("inf"), float("-inf")):
            break
        try:
            packed = _FLOATS[kind].pack(value)
        except OverflowError:
            continue
        if _FLOATS[kind].unpack(packed)[0] == value:
            out.append(_SIMPLE << 5 | kind)
            out += packed
            return
    out.append(_SIMPLE << 5 | _DOUBLE)
    out += _FLOATS[_DOUBLE].pack(value)


def _decode(raw: bytes, at: int, depth: int) -> tuple[Any, int]:
    """Return the value at `at` and where it ends; `depth` is how many more levels it may have."""
    first = _taken(raw, at, 1)[0]
    major, short = first >> 5, first & 31
    if major == _SIMPLE:
        return _simple(raw, at + 1, short)
    number, at = _number(raw, at + 1, short)
    if major == _UNSIGNED:
        return number, at
    if major == _NEGATIVE:
        return -1 - number, at
    if major == _BYTES:
        return bytes(_taken(raw, at, number)), at + number
    if major == _TEXT:
        return str(_taken(raw, at, number), "utf-8"), at + number
    if major not in (_ARRAY, _MAP):
        raise ValueError("CBOR tags are not used in this protocol")
    # Every item takes a byte, so a count beyond the rest is a lie, and refused before it costs.
    if number > len(raw) - at:
        raise ValueError("it ends too early")
    # An empty one does not count as a level, as in cbor2.
    if number and depth == 0:
        raise ValueError("it is nested too deep")
    return (
        _array(raw, at, number, depth - 1) if major == _ARRAY else _map(raw, at, number, depth - 1)
    )


def _array(raw: bytes, at: int, count: int, depth: int) -> tuple[list[Any], int]:
    values = []
    for _ in range(count):
        value, at = _decode(raw, at, depth)
        values.append(value)
    return values, at


def _map(raw: bytes, at: int, count: int, depth: int) -> tuple[dict[str | bytes, Any], int]:
    entries: dict[str | bytes, Any] = {}
    for _ in range(count):
        key, at = _decode(raw, at, depth)
        if not isinstance(key, str | bytes):
            raise ValueError("a key that is neither text nor bytes")
        if key in entries:
            raise ValueError("a key that is there twice")
        entries[key], at = _decode(raw, at, depth)
    return entries, at


def _simple(raw: bytes, at: int, short: int) -> tuple[Any, int]:
    if short in _CONSTANTS:
        return _CONSTANTS[short], at
    if short in _FLOATS:
        packed = _FLOATS[short]
        return packed.unpack(_taken(raw, at, packed.size))[0], at + packed.size
    if short < 24:
        return SimpleValue(short), at
    if short == 24 and (value := _taken(raw, at, 1)[0]) >= 32:
        return SimpleValue(value), at + 1
    raise ValueError("a simple value that does not exist")


def _number(raw: bytes, at: int, short: int) -> tuple[int, int]:
    if short < 24:
        return short, at
    if short > 27:
        raise ValueError("an indefinite length, or a length that does not exist")
    size = 1 << short - 24
    return int.from_bytes(_taken(raw, at, size), "big"), at + size


def _taken(raw: bytes, at: int, count: int) -> bytes:
    if count > len(raw) - at:
        raise ValueError("it ends too early")
    return raw[at : at + count]
