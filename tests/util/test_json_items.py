"""JSON lists item by item: what `json.loads` gives, whatever the chunks, and words for the rest."""

import io
import json
import random
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.exceptions import RequestError
from swarm_hub.util import json_items
from swarm_hub.util.json_items import as_i32, as_lines, items

JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(),
        st.floats(allow_nan=False, allow_infinity=False),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=8,
)  # fmt: skip


def cut(body: bytes, seed: int) -> Iterator[bytes]:
    """Yield a body in chunks of one to nine bytes."""
    random_ = random.Random(seed)
    at = 0
    while at < len(body):
        size = random_.randrange(1, 10)
        yield body[at : at + size]
        at += size


@given(st.lists(JSON, max_size=6), st.integers(0, 9), st.booleans())
def test_the_items_are_those_of_the_whole(values: list[Any], seed: int, spaced: bool) -> None:
    text = json.dumps(values, indent=2 if spaced else None, ensure_ascii=False)
    try:
        body = text.encode()
    except UnicodeEncodeError:
        return
    assert list(items(cut(body, seed))) == values
    lines = b"".join(as_lines(items([body])))
    assert [json.loads(line) for line in lines.split(b"\n")[:-1]] == values


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "expected a JSON list"),
        (b"{}", "expected a JSON list"),
        (b"[", "item 0"),
        (b"[1", "the list does not end"),
        (b"[1,", "item 1"),
        (b"[1,]", "item 1"),
        (b"[1 2]", "the list does not end"),
        (b"[1]]", "something follows"),
        (b"[1] x", "something follows"),
        (b"[NaN]", "NaN"),
        (b"[1e999]", "out of range"),
        (b"[" * 100_000, "nested too deeply"),
        (b'["\xff"]', "not valid UTF-8"),
        (b'["a', "item 0"),
        (b"[tru]", "item 0"),
        (b"[1], [2]", "something follows"),
        (b'["a,b", {"c": [1, 2, 3]}, x]', "item 2"),
    ],
)
def test_what_is_wrong_is_said(body: bytes, said: str) -> None:
    for chunks in ([body], cut(body, 1)):
        with pytest.raises(RequestError) as caught:
            list(items(chunks))
        assert said in caught.value.message


def test_half_a_surrogate_pair_is_no_text() -> None:
    with pytest.raises(RequestError, match="not valid UTF-8"):
        list(as_lines(items([rb'["\ud800"]'])))


def test_numbers_of_any_size_are_data_but_i32_has_32_bits() -> None:
    assert list(items([b"[1" + b"0" * 400 + b"]"])) == [10**400]
    assert b"".join(as_i32(items([b"[1, -2]"]))) == b"\1\0\0\0\xfe\xff\xff\xff"
    for wrong in (b"[2147483648]", b"[1.5]", b"[true]", b'["1"]'):
        with pytest.raises(RequestError, match=r"32 bits|whole numbers"):
            list(as_i32(items([wrong])))


def test_an_item_larger_than_a_shard_ends_it_before_the_rest_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(json_items, "ITEM_MAX_CHARS", 1000)
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        yield b'["a", "'
        while True:
            read += 100
            yield b"x" * 100

    with pytest.raises(RequestError, match="item 1 has more than 1000 characters"):
        list(items(endless()))
    assert read < 10_000


def test_as_a_program_it_says_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    import resource

    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    for body, code, out in ((b"[1, [2]]", 0, b"1\n[2]\n"), (b"[1, 2", 1, b"")):
        monkeypatch.setattr(sys, "argv", ["json_items", "lines"])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(body)))
        assert json_items.main() == code
        said = capfdbinary.readouterr()
        assert said.out == out or code
        if code:
            assert json.loads(said.err)[0] == "invalid_json"
