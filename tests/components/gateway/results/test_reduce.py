"""Folding: in item order, exact for integers, and an error instead of a wrong number."""

import json
import tracemalloc
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.components.gateway.results.reduce import (
    _REDUCERS,
    ReduceError,
    fold,
    number,
    spelled_out,
    start_fold,
)
from swarm_hub.models.job import REDUCE_MODULE, REDUCERS
from swarm_hub.models.shard import ShardResult


def folded(reducer: str, *bodies: bytes) -> bytes:
    """Fold bodies of two items each."""
    results = [
        ShardResult(f"j.{at}.1", "j", at, 2 * at, 2, "node", "sha", len(body), body, 0.1, 0.1)
        for at, body in enumerate(bodies)
    ]
    return fold(reducer, list(zip(results, bodies, strict=True)))


@pytest.mark.parametrize(
    ("reducer", "bodies", "expected"),
    [
        ("sum", [b"1", b"2", b"-5"], b"-2"),
        ("sum", [b" 7\n", b"\t8 "], b"15"),
        ("sum", [str(2**63 - 1).encode()] * 3, str(3 * (2**63 - 1)).encode()),
        ("sum", [b"0.1", b"0.2", b"0.3"], b"0.6"),
        ("sum", [b"1e16", b"1", b"-1e16"], b"1.0"),
        ("sum", [b"9" * 3000, b"1"], b"1" + b"0" * 3000),
        ("min", [b"3", b"-2", b"7.5"], b"-2"),
        ("max", [b"3", b"-2", b"7.5"], b"7.5"),
        ("max", [b"9007199254740993", b"9007199254740992"], b"9007199254740993"),
        ("count", [b"", b"anything", b"\xff"], b"6"),
        ("concat", [b"a", b"", b"\xff\n", b"b"], b"a\xff\nb"),
        ("list", [b"1", b'{"a": [2]}', b"plain", b"", b"\xff\x00"],
         b'[1,{"a":[2]},"plain","",[255,0]]'),
        ("json", [b'{"a": 1, "b": {"c": 2}}', b'{"b": {"c": 3, "d": 4.5}}'],
         b'{"a":1,"b":{"c":5,"d":4.5}}'),
        ("json", [b'{"v": "x"}', b'{"v": "x"}'], b'{"v":"x"}'),
        ("json", [b"{}", b'{"n": 9007199254740993}', b'{"n": 1}'], b'{"n":9007199254740994}'),
    ],
)  # fmt: skip
def test_what_each_reducer_gives(reducer: str, bodies: list[bytes], expected: bytes) -> None:
    assert folded(reducer, *bodies) == expected


def test_what_folds_is_what_can_be_asked_for() -> None:
    assert {*_REDUCERS, REDUCE_MODULE} == {*REDUCERS}


@pytest.mark.parametrize("reducer", sorted({*REDUCERS} - {REDUCE_MODULE}))
def test_every_reducer_that_can_be_asked_for_folds(reducer: str) -> None:
    body = {"json": b"{}", "files": b""}.get(reducer, b"1")
    assert folded(reducer, body)


@pytest.mark.parametrize(
    ("reducer", "bodies", "said"),
    [
        ("sum", [b"1", b"NaN"], "shard 1 gave b'NaN'"),
        ("sum", [b"inf"], "not a finite number"),
        ("sum", [b"1e999"], "not a finite number"),
        ("sum", [b""], "not a number"),
        ("sum", [b"7 8"], "not a number"),
        ("sum", [b"0x10"], "not a number"),
        ("sum", [b"\xd9\xa1"], "not a number"),
        ("sum", [b"9" * 5000], "too many digits"),
        ("min", [b"x"], "choose another reduce, such as concat or list"),
        ("max", [b"\xff"], "not a number"),
        ("json", [b"[1]"], "shard 0: reduce json: expected an object"),
        ("json", [b"{"], "shard 0: reduce json"),
        ("json", [b"\xff\xfe"], "shard 0: reduce json"),
        ("json", [b'{"a": NaN}'], "a: nan is neither a number"),
        ("json", [b'{"a": 1}', b'{"a": 1e999}'], "shard 1"),
        ("json", [b'{"a": null}'], "a: None is neither"),
        ("json", [b'{"a": true}'], "a: True is neither"),
        ("json", [b'{"a": [1]}'], "neither a number, a text nor an object"),
        ("json", [b'{"a": {"b": "x"}}', b'{"a": {"b": "y"}}'], "a.b: 'x' and 'y' can't be added"),
        ("json", [b'{"a": 1}', b'{"a": {"b": 1}}'], "can't be added"),
        ("json", [b'{"a": 1}', b'{"a": "1"}'], "can't be added"),
    ],
)
def test_what_can_not_be_folded_names_the_shard(
    reducer: str, bodies: list[bytes], said: str
) -> None:
    with pytest.raises(ReduceError) as caught:
        folded(reducer, *bodies)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("reducer", "bodies"),
    [
        ("sum", [b"1e308", b"1e308"]),
        ("sum", [b"1" + b"0" * 400, b"0.5"]),
        ("json", [b'{"a": 1' + b"0" * 400 + b'}', b'{"a": 0.5}']),
        ("json", [b'{"a": 1e308}', b'{"a": 1e308}']),
        ("json", [b'{"a": "\\ud800"}']),
        ("list", [b'"\\ud800"']),
        ("list", [b"NaN"]),
        ("list", [b"1e999"]),
    ],
)  # fmt: skip
def test_a_fold_gives_valid_json_or_a_reduce_error(reducer: str, bodies: list[bytes]) -> None:
    """Any other exception would end the dispatcher, which no module may do."""
    try:
        body = folded(reducer, *bodies)
    except ReduceError:
        return
    json.loads(body, parse_constant=lambda name: pytest.fail(f"{name} in {body!r}"))


@given(st.lists(st.integers(), min_size=1, max_size=40))
def test_integers_are_summed_without_a_bound(values: list[int]) -> None:
    assert int(folded("sum", *(str(value).encode() for value in values))) == sum(values)


@given(st.lists(st.floats(-1e100, 1e100), min_size=1, max_size=40))
def test_floats_are_summed_with_one_rounding(values: list[float]) -> None:
    exact = float(sum(map(Fraction, values)))
    assert json.loads(folded("sum", *(repr(value).encode() for value in values))) == exact


@given(st.lists(st.dictionaries(st.text(max_size=3), st.integers()), min_size=1, max_size=10))
def test_objects_are_added_key_by_key(values: list[dict[str, int]]) -> None:
    expected: dict[str, int] = {}
    for value in values:
        for key, added in value.items():
            expected[key] = expected.get(key, 0) + added
    assert json.loads(folded("json", *(json.dumps(value).encode() for value in values))) == expected


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=20))
def test_concat_inserts_nothing(bodies: list[bytes]) -> None:
    assert folded("concat", *bodies) == b"".join(bodies)


@pytest.mark.parametrize("text", [b"1_000", b"1_0.5", b"infinity", b"nan", b"- 1", b"+"])
def test_text_that_is_no_decimal_number_is_no_number(text: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        number(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2**53, None),
        (2**53 + 1, "9007199254740993"),
        (-(2**53) - 1, "-9007199254740993"),
        (1e300, None),
        (True, None),
        ({"a": 2**60}, None),
    ],
)
def test_integers_that_lose_digits_as_doubles_are_spelled_out(value: Any, text: str | None) -> None:
    assert spelled_out(value) == text


@pytest.mark.parametrize("reducer", ["list", "concat"])
def test_a_fold_gives_what_is_certain_as_it_goes(reducer: str) -> None:
    fold = start_fold(reducer)
    body = bytes(range(256)) * 1024
    result = ShardResult("j.0.1", "j", 0, 0, 1, "node", "sha", len(body), body, 0.1, 0.1)
    chunks = [chunk for _ in range(4) for chunk in fold.add(result, body)]
    assert max(map(len, chunks)) <= max(len(body), 4 * 65536)
    whole = b"".join((*chunks, fold.end()))
    assert whole == (
        body * 4
        if reducer == "concat"
        else json.dumps([list(body)] * 4, separators=(",", ":")).encode()
    )


def test_a_list_of_large_results_that_are_no_text_takes_little_memory() -> None:
    body = bytes(range(256)) * 4096
    result = ShardResult("j.0.1", "j", 0, 0, 1, "node", "sha", len(body), body, 0.1, 0.1)
    fold = start_fold("list")
    written = 0
    tracemalloc.start()
    for _ in range(24):
        for chunk in fold.add(result, body):
            written += len(chunk)
    written += len(fold.end())
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert written > 24 * 3 * len(body)
    assert peak_bytes < 8 * len(body)
