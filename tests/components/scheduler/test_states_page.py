"""The page of states tells exactly the transitions that the code allows."""

import re
from pathlib import Path

import pytest

from swarm_hub.components.scheduler.moves import ASSIGNMENT_MOVES, JOB_MOVES, SHARD_MOVES
from swarm_hub.models.job import JobState

_PAGE = (Path(__file__).parents[3] / "docs" / "states.md").read_text(encoding="utf-8")
_MOVE = re.compile(r"\| `(\w+)` \| `(\w+)` \| \S.* \|")
_STATE = re.compile(r"^\| `(\w+)` \| [^`]", re.MULTILINE)


def section(title: str) -> str:
    return _PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize(
    ("title", "moves"),
    [("Job", JOB_MOVES), ("Shard", SHARD_MOVES), ("Assignment", ASSIGNMENT_MOVES)],
)
def test_the_table_has_each_allowed_move_once_and_no_other(
    title: str, moves: frozenset[tuple[str, str]]
) -> None:
    told = _MOVE.findall(section(title))
    assert sorted(told) == sorted((str(old), str(new)) for old, new in moves)


def test_the_page_explains_every_state_of_a_job() -> None:
    assert _STATE.findall(section("Job")) == [state.value for state in JobState]
