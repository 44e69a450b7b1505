"""What commands show on terminals of 40, 80 and 200 columns and in a pipe, held in golden/.

After a change that is meant, `SWARM_HUB_GOLDEN=write` before pytest writes the files anew; read
their diff.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from swarm_hub.cli import jobs, nodes, overview
from swarm_hub.cli.overview import Overview, overview_lines
from swarm_hub.cli.progress import JobView, bar_line, below_lines, node_lines, plain_line
from swarm_hub.cli.tables import table_lines

GOLDEN: Final = Path(__file__).parent / "golden"
# A pipe is None beside them.
WIDTHS: Final = (40, 80, 200)
KITCHEN, ATTIC = ("12D3KooWKitchenKitchenKitchen", "12D3KooWAtticAtticAtticAttic")


def job(number: int, state: str, done: int, of: int, **more: Any) -> dict[str, Any]:
    ended = state not in ("queued", "running")
    progress = {
        "items": of, "items_done": done, "shards": 1200, "shards_done": 900, "retries": 3,
    }  # fmt: skip
    return {
        "job_id": f"01M8MVX07FGHB7RS5HPN3DK4{number:02}", "state": state, "name": None,
        "owner": "ada", "created_at": "2026-01-01T00:00:00+00:00", "started_at": None,
        "finished_at": "2026-01-01T00:10:00+00:00" if ended else None,
        "duration_s": 83.0 if ended else None, "module_sha": "4c8f4797324a" + "0d" * 26,
        "reduce": "sum", "labels": {}, "progress": progress, "failures": [], "nodes": [],
        "waits": None, "problem": None, "note": None, "failed_items": 0, **more,
    }  # fmt: skip


JOBS: Final = [
    job(4, "running", 1_234_567, 9_000_000, name="the nightly sum of everything that there is"),
    job(3, "queued", 0, 10, name="waits", waits="no node has room=attic"),
    job(2, "failed", 17, 20, name="夜の合計", owner="bob", failures=["item 17: exit 3: bad row"]),
    job(1, "completed", 200, 200),
]


def node(node_id: str, name: str, state: str, **more: Any) -> dict[str, Any]:
    telemetry = {
        "cpu_percent": 12.0, "available_memory_bytes": 3 << 30, "battery_percent": None,
        "has_battery": False, "charging": None, "temperature_c": None,
    }  # fmt: skip
    return {
        "node_id": node_id, "name": name, "state": state, "slots": 4, "assignments": 3,
        "ban_reason": None, "ban_until": None, "drain_reason": None, "refuses": None,
        "telemetry": {**telemetry, **more.pop("telemetry", {})}, **more,
    }  # fmt: skip


NODES: Final = [
    node(KITCHEN, "kitchen", "up"),
    node(
        ATTIC, "the old phone in the attic", "up", refuses="not charging", slots=2, assignments=0,
        telemetry={
            "has_battery": True, "battery_percent": 87.0, "charging": False,
            "temperature_c": 31.0, "network": "wifi", "metered": True,
        },
    ),
    node("12D3KooWCellarCellarCellar", "cellar", "down", slots=None, assignments=0),
]  # fmt: skip


def watch(width: int | None) -> list[str]:
    view = JobView(0.0, names={KITCHEN: "kitchen", ATTIC: "the old phone in the attic"})
    view.see_status({**JOBS[0], "progress": {**JOBS[0]["progress"], "items_done": 0}}, 0.0)
    view.see_status(JOBS[0], 20.0)
    for index, node_id in enumerate((KITCHEN, KITCHEN, ATTIC)):
        view.see_event(event("shard_assigned", index, node_id, 100))
    view.see_event(event("shard_done", 0, KITCHEN, 104, wall_s=4.0))
    view.see_event(event("shard_failed", 2, ATTIC, 104, message="exit 3: bad row"))
    if width is None:
        return [plain_line(view)]
    return [bar_line(view, 20.0, width), *below_lines(view, 20.0), *node_lines(view, width)]


def event(kind: str, index: int, node_id: str, second: int, **data: Any) -> dict[str, Any]:
    return {
        "event_type": kind, "time_fired": f"2026-01-01T00:0{second // 60}:{second % 60:02}+00:00",
        "data": {"index": index, "node_id": node_id, "n_items": 600_000, **data},
    }  # fmt: skip


def top(width: int | None) -> list[str]:
    view = Overview("http://127.0.0.1:8470")
    before = {**JOBS[0], "progress": {**JOBS[0]["progress"], "items_done": 0}}
    view.see(NODES, [before, *JOBS[1:]], 0.0)
    view.see(NODES, JOBS, 20.0)
    return [line.text for line in overview_lines(view, 20.0, width, None if width is None else 24)]


def job_show(capsys: pytest.CaptureFixture[str]) -> list[str]:
    shown = {
        **JOBS[2], "labels": {"team": "vision"}, "started_at": "2026-01-01T00:00:01+00:00",
        "problem": "item 17 fails on each node",
        "nodes": [
            {"node_id": KITCHEN, "shards": 900, "wall_s": 75.2, "cpu_s": 70.0,
             "peak_memory_bytes": 64 << 20},
        ],
    }  # fmt: skip
    jobs._print_job(shown, {KITCHEN: "kitchen"})
    return capsys.readouterr().out.splitlines()


@pytest.fixture(autouse=True)
def same_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every time shown as it is in UTC, and every age be the same."""
    for module in (jobs, overview):
        monkeypatch.setattr(module, "age", lambda _text: "5 min")
    monkeypatch.setattr(jobs, "local_time", lambda text: text.replace("T", " ")[:19])
    monkeypatch.setattr(nodes, "node_id_for_people", lambda text: text[:16])


def held(
    name: str,
    shown: Callable[[int | None], list[str]],
    widths: Sequence[int | None] = (*WIDTHS, None),
) -> None:
    """Compare what is shown at each width with the file, and that it fits."""
    text = ""
    for width in widths:
        lines = shown(width)
        text += f"== {'in a pipe' if width is None else width}\n"
        text += "".join(f"{line}\n" for line in lines)
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("SWARM_HUB_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


def test_the_list_of_jobs() -> None:
    held("job_list", lambda width: table_lines(jobs.job_columns(JOBS), width))


def test_the_list_of_nodes() -> None:
    held("node_list", lambda width: table_lines(nodes.node_columns(NODES), width))


def test_a_job_that_is_watched() -> None:
    held("watch", watch)


def test_all_at_once() -> None:
    held("top", top)


def test_a_job_is_shown_alike_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    held("job_show", lambda _width: job_show(capsys), (None,))
