"""What is told of a job that is watched: rate, time left, nodes, and why it does not go on."""

from datetime import UTC, datetime
from typing import Any

import pytest

from swarm_hub.cli.progress import (
    JobView,
    bar_line,
    below_lines,
    node_lines,
    plain_line,
    progress_bar,
)

KITCHEN, CELLAR = "12D3KooWKitchenKitchen", "12D3KooWCellarCellar"


def status(done: int, state: str = "running", **more: Any) -> dict[str, Any]:
    progress = {"items": 5000, "items_done": done, "shards": 9, "shards_done": 1, "retries": 0}
    ended = state not in ("queued", "running")
    return {
        "state": state, "progress": progress, "waits": None, "problem": None,
        "finished_at": "2026-01-01T00:00:00+00:00" if ended else None,
        "duration_s": 83.0 if ended else None, **more,
    }  # fmt: skip


def event(kind: str, at_s: float = 0.0, **data: Any) -> dict[str, Any]:
    return {
        "event_type": kind, "time_fired": datetime.fromtimestamp(at_s, UTC).isoformat(),
        "data": data,
    }  # fmt: skip


def assigned(index: int, node_id: str) -> dict[str, Any]:
    return event("shard_assigned", 100.0, index=index, node_id=node_id, n_items=10)


@pytest.fixture
def view() -> JobView:
    """A job that does 50 items a second on two nodes, of which one failed once."""
    made = JobView(0.0, names={KITCHEN: "kitchen"})
    made.see_status(status(0), 0.0)
    made.see_status(status(1000), 20.0)
    for index, node_id in enumerate((KITCHEN, KITCHEN, CELLAR)):
        made.see_event(assigned(index, node_id))
    made.see_event(event("shard_done", 104.0, index=0, node_id=KITCHEN, n_items=10, wall_s=4.0))
    made.see_event(event("shard_failed", index=1, node_id=KITCHEN, message="exit 3"))
    made.see_event(assigned(1, CELLAR))
    return made


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (200, f"running  {'━' * 8}{'·' * 32}  1,000/5,000 20%  ETA 1 min 20 s  50/s  1 node  20 s"),
        (80, f"running  {'━' * 3}{'·' * 15}  1,000/5,000 20%  ETA 1 min 20 s  50/s  1 node  20 s"),
        (60, f"running  {'━' * 2}{'·' * 10}  1,000/5,000 20%  ETA 1 min 20 s  50/s"),
        (40, f"running  {'━' * 2}{'·' * 12}  1,000/5,000 20%"),
        (24, "running  1,000/5,000 20%"),
        (10, "running  1"),
    ],
)
def test_the_bar_fits_the_terminal(view: JobView, width: int, line: str) -> None:
    assert bar_line(view, 20.0, width) == line
    assert len(line) <= width


def test_what_can_not_be_known_yet_is_not_told() -> None:
    view = JobView(0.0)
    view.see_status(status(0, "queued"), 0.0)
    assert bar_line(view, 0.5, 80) == f"queued  {'·' * 40}  0/5,000 0%  0.5 s"
    view.see_status(status(900), 1.0)
    # A shard that ends in the first second says nothing of the next.
    assert (view.rate(), view.left_s()) == (None, None)
    view.see_status(status(900), 30.0)
    assert view.rate() == 30.0


def test_the_rate_is_that_of_the_last_minute() -> None:
    view = JobView(0.0)
    for second in range(0, 301, 10):
        view.see_status(status(second if second <= 200 else 200 + (second - 200) * 20), second)
    assert view.rate() == 20.0
    assert view.left_s() == (5000 - 2200) / 20


def test_each_node_has_a_line(view: JobView) -> None:
    assert node_lines(view, 80) == [
        "NODE              RUNS  SHARDS  ITEMS   RATE  FAILED",
        "kitchen              0       1     10  2.5/s       1",
        "12D3KooWCellarCe     2       0      0",
    ]
    assert node_lines(view, 30) == [
        "NODE              RUNS  ITEMS",
        "kitchen              0     10",
        "12D3KooWCellarCe     2      0",
    ]
    assert node_lines(JobView(0.0), 80) == []


def test_under_the_bar_stands_why_it_does_not_go_on(view: JobView) -> None:
    assert below_lines(view, 0.0) == ["Retried: shard 1 on kitchen: exit 3"]
    view.see_event(event("shard_returned", index=2, reason="node went down"))
    assert (below_lines(view, 0.0), view.n_working) == (["Retried: shard 2: node went down"], 1)
    view.see_status(status(1000, waits="1 node: 1 not charging", problem="item 7: exit 3"), 30.0)
    assert below_lines(view, 30.0) == [
        "It waits: 1 node: 1 not charging", "Problem: item 7: exit 3",
    ]  # fmt: skip
    view.lost_at = 40.0
    (line,) = below_lines(view, 52.0)
    assert line.startswith("The gateway does not answer for 12 s. The job is safe")


def test_a_log_gets_lines(view: JobView) -> None:
    assert plain_line(view) == (
        "running: 1,000 of 5,000 items (20%), 50/s, about 1 min 20 s left, 1 node"
    )
    view.see_status(status(5000, "completed"), 83.0)
    assert plain_line(view) == "completed: 5,000 of 5,000 items (100%), in 1 min 23 s"
    assert bar_line(view, 83.0, 80) == f"completed  {'━' * 36}  5,000/5,000 100%  in 1 min 23 s"


def test_a_bar_is_as_full_as_the_job() -> None:
    assert [progress_bar(done, 8, 4) for done in (0, 1, 2, 7, 8, 9)] == [
        "····", "····", "━···", "━━━·", "━━━━", "━━━━",
    ]  # fmt: skip
    assert progress_bar(5, None, 3) == "···"
