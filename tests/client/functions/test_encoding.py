"""Values as lines and back: every plain value comes back as it was, everything else is refused."""

import datetime
import json
import math
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.client.functions.encoding import DEPTH_MAX, EncodingError, decode, encode

FIXED = st.integers(-1439, 1439).map(
    lambda minutes: datetime.timezone(datetime.timedelta(minutes=minutes))
)
KEYS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**300), 2**300),
    st.floats(allow_nan=False), st.text(), st.binary(), st.dates(), st.timedeltas(),
    st.datetimes(timezones=st.none() | FIXED), st.times(),
)  # fmt: skip
HASHED = st.recursive(
    KEYS, lambda inner: st.one_of(st.lists(inner).map(tuple), st.frozensets(inner)), max_leaves=8
)
VALUES = st.recursive(
    st.one_of(HASHED, st.floats(), st.binary().map(bytearray)),
    lambda inner: st.one_of(
        st.lists(inner), st.lists(inner).map(tuple), st.dictionaries(HASHED, inner),
        st.sets(HASHED), st.frozensets(HASHED),
    ),
    max_leaves=20,
)  # fmt: skip


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same in their types, the order of dicts, and the sign of zero."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return repr(one) == repr(other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, set | frozenset):
        return len(one) == len(other) and {encode(each) for each in one} == {
            encode(each) for each in other
        }
    if isinstance(one, datetime.datetime | datetime.time):
        return bool(one.replace(tzinfo=None) == other.replace(tzinfo=None)) and (
            one.utcoffset() == other.utcoffset() and one.fold == other.fold
        )
    return bool(one == other)


@given(VALUES)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    text = encode(value)
    assert text.isascii()
    assert text.isprintable()
    assert same(decode(text), value)
    assert encode(decode(text)) == text


@given(st.lists(HASHED))
def test_a_set_has_one_encoding(members: list[Any]) -> None:
    # Of equal members, such as 0 and False, a set keeps the first.
    chosen = list(set(members))
    assert encode(set(chosen)) == encode({*reversed(chosen)})


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(list("tdsSibBfDTHlx")), inner,
                                                    max_size=2),
))  # fmt: skip
def test_what_is_no_encoding_is_refused_and_nothing_else_happens(plain: Any) -> None:
    try:
        value = decode(json.dumps(plain))
    except EncodingError:
        return
    assert same(decode(encode(value)), value)


def test_every_nan_is_one() -> None:
    import struct

    odd = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_0001))[0]
    assert encode(odd) == encode(math.nan) == '{"f":"nan"}'
    assert encode(True) != encode(1) != encode(1.0)


class Point(NamedTuple):
    x: int


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (object(), "a builtins.object is not plain data"),
        (Point(1), "Point is not plain data; give tuple"),
        (range(3), "give list"),
        (1j, "a builtins.complex is not plain data"),
        (nested(DEPTH_MAX + 1), "nested more than 64 deep"),
        (datetime.datetime(2024, 1, 1, tzinfo=ZoneInfo("Europe/Paris")), "is no fixed offset"),
    ],
)
def test_what_is_not_plain_data_is_refused(value: Any, said: str) -> None:
    with pytest.raises(EncodingError, match=said):
        encode(value)


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "nan", "NaN", "1e999", "9" * 5000, str(2**60), '{"i":"AQ=="}', '{"i":"!"}',
        '{"i":1}', '{"x":[]}', '{"d":[1]}', '{"d":[1,2,1,3]}', '{"d":[[],1]}', '{"s":[1,1]}',
        '{"t":1}', '{"t":[],"d":[]}', '{"f":"1.0"}', '{"l":[1,2]}', '{"l":[1,2,true]}',
        '{"l":[9999999999,0,0]}', '{"T":["yesterday",0]}', '{"D":5}', '{"T":5}', '{"b":"x"}',
        "[" * 100_000, "[" * (DEPTH_MAX + 1) + "]" * (DEPTH_MAX + 1),
        '{"s":[' + ",".join('{"i":"' + encode(i * (2**61 - 1)).split('"')[3] + '"}'
                            for i in range(1 << 10, (1 << 10) + 1100)) + "]}",
    ],
)  # fmt: skip
def test_a_text_that_is_no_encoding_is_refused(text: str) -> None:
    with pytest.raises(EncodingError):
        decode(text)


def test_a_value_as_deep_as_may_be_comes_back() -> None:
    assert decode(encode(nested(DEPTH_MAX))) == nested(DEPTH_MAX)
