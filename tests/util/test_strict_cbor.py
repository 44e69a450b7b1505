"""CBOR with cbor2 and without: the same bytes, the same values, the same refusals."""

import enum
import math
import struct
from collections import OrderedDict
from types import MappingProxyType
from typing import Any

import cbor2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from swarm_hub.util import pure_cbor
from swarm_hub.util.strict_cbor import (
    HAS_CBOR2,
    MAX_DEPTH,
    parse_canonical_cbor,
    parse_cbor,
    to_canonical_cbor,
    to_cbor,
)
from tests.helpers.without import python_without

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**64), 2**64 - 1), st.binary(max_size=300),
    st.text(max_size=300), st.floats(), st.floats(width=16), st.floats(width=32),
)  # fmt: skip
KEYS = st.one_of(st.text(max_size=30), st.binary(max_size=30))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=30), st.dictionaries(KEYS, inner, max_size=30)
    ),
    max_leaves=30,
)
# What a decoder may stumble over: heads of every kind, cut short, in any order.
HEADS = st.builds(
    lambda major, short, rest: bytes((major << 5 | short,)) + rest,
    st.integers(0, 7), st.integers(0, 31), st.binary(max_size=9),
)  # fmt: skip
HOSTILE = st.one_of(
    st.binary(max_size=64),
    st.lists(HEADS, max_size=12).map(b"".join),
    # One byte of a valid encoding changed, or its end cut off.
    st.builds(
        lambda value, at, byte, cut: (
            (raw := to_cbor(value))[: at % len(raw)] + byte + raw[at % len(raw) + 1 :][:cut]
        ),
        VALUES, st.integers(0, 2**16), st.binary(max_size=2), st.integers(0, 2**10),
    ),
)  # fmt: skip


class Colour(enum.StrEnum):
    """A value of the protocol that is a text."""

    RED = "red"


class Level(enum.IntEnum):
    """A value of the protocol that is a number."""

    HIGH = 3


def exact(value: Any) -> Any:
    """Return a value in which 1, 1.0 and True differ, and every NaN is the same."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack(">d", value)
    if isinstance(value, list):
        return [exact(each) for each in value]
    if isinstance(value, dict):
        return "map", [(type(key), key, exact(each)) for key, each in value.items()]
    if value is cbor2.undefined:
        return "simple", 23
    if isinstance(value, cbor2.CBORSimpleValue | pure_cbor.SimpleValue):
        return "simple", value.value
    return type(value), value


def by_cbor2(raw: bytes) -> Any:
    try:
        return exact(parse_cbor(raw))
    except ValueError:
        return "refused"


def by_python(raw: bytes) -> Any:
    try:
        return exact(pure_cbor.loads(raw, MAX_DEPTH))
    except ValueError:
        return "refused"


def test_the_tests_hold_one_against_the_other() -> None:
    assert HAS_CBOR2


@given(VALUES)
def test_both_encode_a_value_into_the_same_bytes(value: Any) -> None:
    assert pure_cbor.dumps(value) == to_cbor(value)
    assert pure_cbor.dumps(value, canonical=True) == to_canonical_cbor(value)


@pytest.mark.parametrize(
    "value",
    [
        (1, "two"), bytearray(b"x"), Colour.RED, Level.HIGH, OrderedDict(b=1, a=2),
        MappingProxyType({"b": 1, "aa": 2}), {300: 1, -1: 2, b"xxx": 3, "a": 4}, -0.0, 65505.0,
        5.960464477539063e-8, math.inf, -math.inf, math.nan, 2**64 - 1, -(2**64), "", b"", [], {},
    ],
)  # fmt: skip
def test_both_encode_what_only_looks_like_a_plain_value(value: Any) -> None:
    assert pure_cbor.dumps(value) == to_cbor(value)
    assert pure_cbor.dumps(value, canonical=True) == to_canonical_cbor(value)


@pytest.mark.parametrize("value", [2**64, -(2**64) - 1, {1, 2}, object(), 1j, "\ud800"])
def test_what_no_decoder_takes_is_not_encoded_without_cbor2(value: Any) -> None:
    with pytest.raises(ValueError, match="can't"):
        pure_cbor.dumps(value)


def test_what_contains_itself_is_not_encoded() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="levels"):
        pure_cbor.dumps(endless)


@given(VALUES)
def test_both_read_what_was_encoded(value: Any) -> None:
    for raw in (to_cbor(value), to_canonical_cbor(value)):
        assert by_python(raw) == by_cbor2(raw)


@given(HOSTILE)
@example(bytes.fromhex("81" * 12 + "80"))
@example(bytes.fromhex("81" * 13 + "80"))
@example(bytes.fromhex("a16100" * 12 + "a0"))
@example(bytes.fromhex("a241610058016100"))
@example(bytes.fromhex("5bffffffffffffffff"))
def test_both_read_hostile_bytes_as_the_same_value_or_refuse_them(raw: bytes) -> None:
    assert by_python(raw) == by_cbor2(raw)


REFUSED = {
    "nothing": "",
    "bytes after its end": "0000",
    "an end without a beginning": "ff",
    "an array without a length": "9f00ff",
    "bytes without a length": "5f4100ff",
    "text without a length": "7f6161ff",
    "a map without a length": "bf616100ff",
    "a date": "c0747465787420",
    "a big number": "c249010000000000000000",
    "an unknown tag": "d9ffff00",
    "a self-describing value": "d9d9f7f6",
    "a key that is there twice": "a2616100616101",
    "a key in another spelling": "a26161007801616101",
    "a number as a key": "a10000",
    "an array as a key": "a18000",
    "text that is not UTF-8": "62c080",
    "half a surrogate": "63eda080",
    "a count without items": "9bffffffffffffffff",
    "a length without bytes": "5bffffffffffffffff",
    "a length that does not exist": "1c",
    "a long form of false": "f814",
    "thirteen levels": "81" * 13 + "00",
}


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED.keys())
def test_both_refuse(raw: str) -> None:
    assert by_python(bytes.fromhex(raw)) == by_cbor2(bytes.fromhex(raw)) == "refused"


@pytest.mark.parametrize(
    "raw",
    ["1800", "a2616201616100", "fb3ff8000000000000", "0000", "f97e01", "a2616100616101", "c101"],
)
def test_only_the_canonical_encoding_is_taken_for_what_is_signed(raw: str) -> None:
    with pytest.raises(ValueError, match=r"CBOR|canonical"):
        parse_canonical_cbor(bytes.fromhex(raw))


@given(st.dictionaries(st.text(max_size=5), SCALARS, max_size=5))
def test_what_was_encoded_canonically_is_read(value: dict[str, Any]) -> None:
    assert exact(parse_canonical_cbor(to_canonical_cbor(value)))[0] == "map"


WITHOUT = """
from swarm_hub.util import pure_cbor, strict_cbor
print(strict_cbor.to_cbor is pure_cbor.dumps)
print(strict_cbor.to_canonical_cbor({"bb": 1, "a": 1.5}).hex())
print(strict_cbor.parse_cbor(bytes.fromhex("820102")))
for refused in (strict_cbor.parse_cbor, strict_cbor.parse_canonical_cbor):
    try:
        refused(bytes.fromhex("0000"))
    except ValueError as error:
        print(error)
"""
# cbor2 5 is the last one without a compiled part, and can't be told to be strict.
OLD = """
import types
old = types.ModuleType("cbor2")
old.dumps = lambda value, canonical=False: b"old"
class CBORDecoder:
    def __init__(self, fp, tag_hook=None, object_hook=None): pass
old.CBORDecoder = CBORDecoder
sys.modules["cbor2"] = old
"""


@pytest.mark.parametrize("before", ["", OLD], ids=["no cbor2", "cbor2 5"])
def test_pure_python_stands_in_for(before: str) -> None:
    assert python_without(("cbor2",), before + WITHOUT).splitlines() == [
        "True",
        "a26161f93e0062626201",
        "[1, 2]",
        "not valid CBOR: bytes after its end",
        "not valid CBOR: bytes after its end",
    ]
