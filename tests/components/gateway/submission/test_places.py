"""An item is found where its owner put it: by file and line, by number, by offset."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.components.gateway.submission.dataset import measure
from swarm_hub.components.gateway.submission.places import Parts, pack_parts, place
from swarm_hub.models.job import Job, JobSpec, JobState, Split
from swarm_hub.models.submission import DatasetPart

LINES = (Split.LINES, 0)


def job(split: Split, range_start: int = 0, record_bytes: int = 0) -> Job:
    spec = JobSpec("wasi", "_start", split, record_bytes, "concat")
    return Job("job", JobState.QUEUED, spec, "m", 1, "d", 100, 1, range_start, 0.0, "owner")


def found(parts: list[tuple[str, int]], split: Split, first_item: int, n_items: int) -> str | None:
    return place(job(split), Parts(pack_parts(parts)), first_item, n_items)


FILES = [("a.csv", 3), ("empty.csv", 0), ("b.csv", 20)]


@pytest.mark.parametrize(
    ("first_item", "n_items", "where"),
    [
        (0, 1, "a.csv:1"),
        (2, 1, "a.csv:3"),
        (3, 1, "b.csv:1"),
        (22, 1, "b.csv:20"),
        (4, 8, "b.csv:2-9"),
        (1, 5, "a.csv:2 to b.csv:3"),
    ],
)
def test_a_line_is_in_a_file_and_counts_from_1(first_item: int, n_items: int, where: str) -> None:
    assert found(FILES, Split.LINES, first_item, n_items) == where


def test_two_files_of_one_name_are_told_apart_by_their_lines() -> None:
    assert found([("a", 3), ("a", 3)], Split.LINES, 2, 2) == "a:3 to a:1"


def test_a_file_that_is_an_item_is_named() -> None:
    files = [("cat.png", 1), ("dog.png", 1), ("elk.png", 1)]
    assert found(files, Split.FILES, 1, 1) == "dog.png"
    assert found(files, Split.FILES, 1, 2) == "dog.png to elk.png"


@pytest.mark.parametrize(
    ("low", "first_item", "n_items", "where"),
    [
        (1000, 17, 1, "value 1017"),
        (1000, 12, 8, "values 1012 to 1019"),
        (-5, 0, 1, "value -5"),
        (0, 17, 1, None),
    ],
)
def test_of_a_range_that_does_not_begin_at_0_it_is_the_number(
    low: int, first_item: int, n_items: int, where: str | None
) -> None:
    assert place(job(Split.RANGE, low), None, first_item, n_items) == where


def test_a_record_is_at_an_offset() -> None:
    assert place(job(Split.RECORDS, record_bytes=100), None, 17, 1) == "byte 1700"
    assert place(job(Split.I32), None, 17, 2) == "byte 68"


@pytest.mark.parametrize("split", [Split.LINES, Split.FILES, Split.JSON])
def test_of_a_job_without_names_it_is_not_known(split: Split) -> None:
    assert place(job(split), None, 17, 1) is None


def test_files_without_any_name_have_no_index() -> None:
    assert pack_parts([("", 3), ("", 4)]) == b""
    assert found([("", 3), ("b.csv", 4)], Split.LINES, 1, 1) == "line 2"


def test_a_name_that_can_not_be_stored_is_stored_all_the_same() -> None:
    name = "\ud800" + "x" * 1000
    assert found([(name, 1)], Split.FILES, 0, 1) == "\N{REPLACEMENT CHARACTER}" + "x" * 254


def test_an_item_that_no_file_has_is_an_error() -> None:
    with pytest.raises(ValueError, match="no item 23"):
        found(FILES, Split.LINES, 23, 1)


@given(st.lists(st.lists(st.binary(max_size=3).map(lambda each: each.replace(b"\n", b"")))))
def test_every_line_of_an_upload_is_found_where_it_was(files: list[list[bytes]]) -> None:
    """Whether or not the last line of a file ends with a newline."""
    written = [b"\n".join(lines) for lines in files]
    expected = [
        f"{number}.txt:{line + 1}"
        for number, body in enumerate(written)
        for line in range(body.count(b"\n") + (body != b"" and not body.endswith(b"\n")))
    ]
    if not expected:
        return
    parts = [DatasetPart(f"{number}.txt", body) for number, body in enumerate(written)]
    measured = measure(parts, None, LINES, Split.LINES)
    index = Parts(measured.parts)
    assert [place(job(Split.LINES), index, item, 1) for item in range(measured.n_items)] == expected


def test_values_of_json_are_on_no_line_that_their_owner_knows() -> None:
    upload = [DatasetPart("a.json", b"[1, 2]")]
    assert measure(upload, None, (Split.JSON, 0), Split.LINES).parts == b""
    assert measure([], ["a", "b"], LINES, Split.LINES).parts == b""
