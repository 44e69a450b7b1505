"""Datasets: every item is given exactly once, whatever the bytes and wherever the cuts."""

import itertools
import json
import struct
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.components.gateway.submission.dataset import Dataset, Measured, measure
from swarm_hub.exceptions import InvalidInput, MalformedRequest, RequestError
from swarm_hub.models.job import Job, JobSpec, JobState, Split
from swarm_hub.models.submission import DatasetPart

LINES = (Split.LINES, 0)
FILES = (Split.FILES, 0)
JSON = (Split.JSON, 0)
I32 = (Split.I32, 0)
RANGE = (Split.RANGE, 0)

# Cuts as fractions of what is left, so that they fit any number of items.
CUTS = st.lists(st.integers(1, 90), min_size=1, max_size=30)
LINE_BODY = st.binary(max_size=20).map(lambda body: body.replace(b"\n", b""))
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


def uploaded(*bodies: bytes) -> list[DatasetPart]:
    return [DatasetPart(f"{number}.bin", body) for number, body in enumerate(bodies)]


def opened(measured: Measured) -> Dataset:
    spec = JobSpec("wasi", "_start", measured.split, measured.record_bytes, "concat")
    job = Job(
        "job", JobState.QUEUED, spec, "m", 1, "d", measured.n_items, len(measured.body),
        measured.range_start, 0.0, "owner",
    )  # fmt: skip
    return Dataset(job, measured.body)


def shards(measured: Measured, cuts: list[int]) -> list[bytes]:
    """Cut the items as the scheduler may, and return the bytes of each shard."""
    dataset = opened(measured)
    found, first, turn = [], 0, 0
    while first < measured.n_items:
        n_items = min(cuts[turn % len(cuts)], measured.n_items - first)
        found.append(dataset.read(first, n_items))
        first, turn = first + n_items, turn + 1
    return found


def refusal(parts: list[DatasetPart], values: Any, split: Any, default: Split) -> RequestError:
    with pytest.raises(RequestError) as caught:
        measure(parts, values, split, default)
    return caught.value


@given(st.lists(LINE_BODY, min_size=1, max_size=300), st.booleans(), CUTS)
def test_shards_of_lines_joined_are_the_file(
    lines: list[bytes], ended: bool, cuts: list[int]
) -> None:
    body = b"\n".join(lines) + (b"\n" if ended else b"")
    if not body:
        assert refusal(uploaded(body), None, LINES, Split.LINES).code == "empty_dataset"
        return
    measured = measure(uploaded(body), None, LINES, Split.LINES)
    # Only \n ends a line, as bytes.splitlines would not have it for \r and others.
    expected = body.split(b"\n")
    assert measured.n_items == len(expected) - (expected[-1] == b"")
    assert b"".join(shards(measured, cuts)) == body
    one_each = shards(measured, [1])
    assert [line.removesuffix(b"\n") for line in one_each] == expected[: measured.n_items]


def test_lines_of_megabytes_are_found_in_a_moment() -> None:
    """A search from each byte of them took hours, and held the whole process meanwhile."""
    lines = [b"x" * 4_000_000 + b"\n", b"short\n", b"y" * 2_000_000]
    measured = measure(uploaded(b"".join(lines)), None, LINES, Split.LINES)
    began = time.monotonic()
    assert shards(measured, [1]) == lines
    assert time.monotonic() - began < 5


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=5))
def test_the_last_line_of_a_file_never_joins_the_next_file(bodies: list[bytes]) -> None:
    kept = [body for body in bodies if body]
    if not kept:
        return
    measured = measure(uploaded(*bodies), None, LINES, Split.LINES)
    assert measured.n_items == sum(body.count(b"\n") + (not body.endswith(b"\n")) for body in kept)
    joined = b"".join(body if body.endswith(b"\n") else body + b"\n" for body in kept[:-1])
    assert measured.body == joined + kept[-1]


@given(st.binary(min_size=1, max_size=400), st.integers(1, 40), CUTS)
def test_shards_of_records_joined_are_the_file(body: bytes, size: int, cuts: list[int]) -> None:
    split = (Split.RECORDS, size)
    if len(body) % size:
        assert refusal(uploaded(body), None, split, Split.LINES).code == "ragged_dataset"
        return
    measured = measure(uploaded(body), None, split, Split.LINES)
    assert measured.n_items == len(body) // size
    assert b"".join(shards(measured, cuts)) == body
    assert shards(measured, [1]) == [body[at : at + size] for at in range(0, len(body), size)]


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=12), CUTS)
def test_each_file_is_one_item_even_an_empty_one(bodies: list[bytes], cuts: list[int]) -> None:
    measured = measure(uploaded(*bodies), None, FILES, Split.LINES)
    assert measured.n_items == len(bodies)
    assert shards(measured, [1]) == bodies
    assert b"".join(shards(measured, cuts)) == b"".join(bodies)


@given(st.lists(VALUES, min_size=1, max_size=80), CUTS, st.booleans())
def test_json_values_come_back_one_a_line(
    values: list[Any], cuts: list[int], as_file: bool
) -> None:
    if as_file:
        measured = measure(uploaded(json.dumps(values).encode()), None, JSON, Split.LINES)
    else:
        measured = measure([], values, None, Split.LINES)
    assert (measured.split, measured.n_items) == (Split.JSON, len(values))
    lines = b"".join(shards(measured, cuts)).split(b"\n")[:-1]
    assert [json.loads(line) for line in lines] == values


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=300), CUTS)
def test_i32_is_the_same_from_a_list_and_from_packed_bytes(
    values: list[int], cuts: list[int]
) -> None:
    packed = struct.pack(f"<{len(values)}i", *values)
    from_list = measure([], values, None, Split.I32)
    assert from_list == measure(uploaded(packed), None, I32, Split.LINES)
    assert b"".join(shards(from_list, cuts)) == packed


@given(st.integers(-(2**63), 2**63 - 2), st.integers(1, 10**6), CUTS)
def test_shards_of_a_range_touch_and_cover_it(low: int, n_items: int, cuts: list[int]) -> None:
    high = min(low + n_items, 2**63 - 1)
    measured = measure([], [low, high], RANGE, Split.LINES)
    assert measured == measure(uploaded(f" {low}:{high}\n".encode()), None, RANGE, Split.LINES)
    large = [cut * -(-measured.n_items // 50) for cut in cuts]
    bounds = [tuple(map(int, shard.split())) for shard in shards(measured, large)]
    assert (bounds[0][0], bounds[-1][1]) == (low, high)
    assert all(left[1] == right[0] for left, right in itertools.pairwise(bounds))


@pytest.mark.parametrize("split", [LINES, JSON, FILES, (Split.RECORDS, 4), I32, RANGE])
def test_a_dataset_without_items_is_refused(split: Any) -> None:
    empty = {Split.JSON: b"[]", Split.RANGE: b"5:5"}.get(split[0], b"")
    parts = [] if split is FILES else uploaded(empty)
    error = refusal(parts, None, split, Split.LINES)
    assert (type(error), error.code) == (InvalidInput, "empty_dataset")


@pytest.mark.parametrize(
    ("values", "split", "said"),
    [
        ({"a": 1}, None, "expected a JSON list"),
        ([1.5], I32, "whole numbers only"),
        ([True], I32, "whole numbers only"),
        ([2**31], I32, "2147483648 does not fit into 32 bits"),
        ([1, -(2**31) - 1], I32, "-2147483649 does not fit"),
        (["a\nb"], LINES, "without line breaks"),
        ([1], LINES, "texts without line breaks"),
        (["a"], FILES, "takes an uploaded file"),
        (["a"], (Split.RECORDS, 2), "takes an uploaded file"),
        ([1, 2, 3], RANGE, "LO:HI or [LO, HI]"),
        ([1, 2.0], RANGE, "LO:HI or [LO, HI]"),
        ([0, True], RANGE, "LO:HI or [LO, HI]"),
        ([0, 2**63], RANGE, "LO:HI or [LO, HI]"),
        ("0:5", RANGE, "LO:HI or [LO, HI]"),
        ([5, 4], RANGE, "HI must be above LO"),
    ],
)
def test_what_a_json_dataset_may_not_hold(values: Any, split: Any, said: str) -> None:
    error = refusal([], values, split, Split.LINES)
    assert isinstance(error, InvalidInput)
    assert said in error.message


@pytest.mark.parametrize("text", [b"", b"5", b"a:b", b"1:2:3", b"1.0:2", b"0:99999999999999999999"])
def test_a_range_that_is_none_is_refused(text: bytes) -> None:
    assert isinstance(refusal(uploaded(text), None, RANGE, Split.LINES), InvalidInput)


def test_a_file_of_json_is_parsed_strictly() -> None:
    error = refusal(uploaded(b"[NaN]"), None, JSON, Split.LINES)
    assert (type(error), error.code) == (MalformedRequest, "invalid_json")
