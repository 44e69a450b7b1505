"""What a query may say, and what is told of what it may not."""

from typing import Any

import pytest
import voluptuous as vol

from swarm_hub.endpoints import Prefixed, point_in_time, words
from swarm_hub.models.job import JobState

LABEL = Prefixed("label.")


def test_a_prefixed_key_stands_for_every_name_with_that_beginning() -> None:
    schema = vol.Schema({"owner": str, LABEL: str})
    query = {"owner": "ada", "label.team": "x", "label.a.b": "y"}
    assert LABEL.of(schema(query)) == {"team": "x", "a.b": "y"}
    for unknown in ("label.", "labels.x", "Label.x", "team"):
        with pytest.raises(vol.Invalid, match="extra keys not allowed"):
            schema({unknown: "x"})


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0), ("1700000000.5", 1.7e9 + 0.5), (1_700_000_000, 1.7e9),
        ("2023-11-14T22:13:20Z", 1.7e9), ("2023-11-14T22:13:20", 1.7e9),
        ("2023-11-15T00:13:20+02:00", 1.7e9), ("2023-11-15T00:13:20 02:00", 1.7e9),
        ("2023-11-14", 1_699_920_000.0),
    ],
)  # fmt: skip
def test_a_time_is_seconds_or_iso_8601(value: Any, seconds: float) -> None:
    assert point_in_time(value) == seconds


@pytest.mark.parametrize(
    "value",
    ["", "now", "-1", "nan", "inf", "1e400", "9" * 20, "0001-01-01", None, [], {}, "2023-13-01"],
)
def test_what_is_no_time_is_refused(value: Any) -> None:
    with pytest.raises(vol.Invalid, match="expected a time"):
        point_in_time(value)


def test_words_are_separated_by_commas() -> None:
    states = words(JobState)
    assert states("queued,running") == {JobState.QUEUED, JobState.RUNNING}
    for wrong in ("", "queued,", "queued, running", "Queued", "lost", None, ["queued"]):
        with pytest.raises(vol.Invalid, match="one or more of queued, running"):
            states(wrong)
