"""Some items of a dataset are those items, in order, as a dataset of their own."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.components.gateway.submission.chosen_items import (
    Run,
    chosen,
    joined,
    spec_of,
)
from swarm_hub.components.gateway.submission.dataset import Dataset, Measured, measure
from swarm_hub.components.gateway.submission.places import Parts, place
from swarm_hub.exceptions import InvalidInput
from swarm_hub.models.job import Job, JobSpec, JobState, KnownAnswer, Split
from swarm_hub.models.submission import DatasetPart

N_ITEMS = 12
BODIES = {
    Split.LINES: [b"a\n\nlong line\n" * 3, b"x\ny\nz"],
    Split.JSON: [b"[0, 1, [2], 3, 4, 5, 6, 7, 8, 9, 10, 11]"],
    Split.FILES: [b"%d" % number * number for number in range(N_ITEMS)],
    Split.I32: [bytes(range(4 * N_ITEMS))],
    Split.RECORDS: [bytes(range(3 * N_ITEMS))],
    Split.RANGE: [b"-5:7"],
}
RUNS = st.lists(
    st.integers(0, N_ITEMS - 1).flatmap(
        lambda first: st.tuples(st.just(first), st.integers(1, N_ITEMS - first))
    ),
    min_size=1,
    max_size=5,
).map(joined)


def dataset(split: Split) -> Measured:
    parts = [DatasetPart(f"{at}.txt", body) for at, body in enumerate(BODIES[split])]
    return measure(parts, None, (split, 3 if split is Split.RECORDS else 0), Split.LINES)


def job_of(measured: Measured, **spec: object) -> Job:
    plain = JobSpec("wasi", "_start", measured.split, measured.record_bytes, "concat")
    return Job(
        "job", JobState.QUEUED, dataclasses.replace(plain, **spec), "m", 1, "d",  # type: ignore[arg-type]
        measured.n_items, measured.size_bytes, measured.range_start, 0.0, "owner",
    )  # fmt: skip


@given(st.sampled_from(list(BODIES)), RUNS)
def test_each_of_them_is_as_it_was_and_files_and_numbers_are_found_where_they_were(
    split: Split, runs: list[Run]
) -> None:
    whole = dataset(split)
    job, items = job_of(whole), [at for first, n in runs for at in range(first, first + n)]
    parts = Parts(whole.parts) if whole.parts else None
    some = chosen(job, whole.body, parts, runs)
    of_some = job_of(some)
    assert some.n_items == len(items)
    before, after = Dataset(job, whole.body), Dataset(of_some, some.body)
    wanted = [before.read(item, 1) for item in items]
    got = [after.read(at, 1) for at in range(len(items))]
    if split in (Split.LINES, Split.JSON):
        wanted, got = ([each.rstrip(b"\n") for each in found] for found in (wanted, got))
    assert got == wanted
    if split in (Split.FILES, Split.RANGE):
        index = Parts(some.parts) if some.parts else None
        # In a range that begins at 0 an item's number is its value, and nothing else is told.
        assert [place(of_some, index, at, 1) or f"value {at}" for at in range(len(items))] == [
            place(job, parts, item, 1) for item in items
        ]


@given(RUNS)
def test_no_shard_of_a_range_with_gaps_crosses_one(runs: list[Run]) -> None:
    whole = dataset(Split.RANGE)
    job = job_of(whole)
    some = chosen(job, whole.body, None, runs)
    size = spec_of(job.spec, runs).shard_size or some.n_items
    after, before = Dataset(job_of(some), some.body), []
    for at in range(0, some.n_items, size):
        low, high = map(int, after.read(at, size).split())
        before += range(low, high)
    assert before == [at - 5 for first, n in runs for at in range(first, first + n)]


def test_runs_that_touch_are_one() -> None:
    assert joined([(5, 2), (0, 1), (7, 1), (1, 1), (20, 3), (21, 1)]) == [(0, 2), (5, 3), (20, 3)]


def test_known_answers_are_of_the_same_items_or_left_out() -> None:
    known = tuple(KnownAnswer(first, n, "a") for first, n in ((0, 1), (4, 2), (8, 2)))
    spec = job_of(dataset(Split.I32), known_answers=known).spec
    assert spec_of(spec, [(3, 3), (9, 1)]).known_answers == (KnownAnswer(1, 2, "a"),)


def test_what_can_t_be_chosen_is_refused() -> None:
    whole = dataset(Split.I32)
    with pytest.raises(InvalidInput, match="item 12 is past the 12 items of job job"):
        chosen(job_of(whole), whole.body, None, [(3, 10)])
    spec = job_of(dataset(Split.RANGE)).spec
    with pytest.raises(InvalidInput, match="need shards of 1, more than 1000000 of them"):
        spec_of(spec, [(0, 1_000_001), (2_000_000, 2)])
