"""What `top` shows of a swarm: its nodes and its jobs, as lines that fit the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from swarm_hub.cli.progress import JobView, gone, per_second
from swarm_hub.cli.tables import Column, table_lines
from swarm_hub.cli.wording import age
from swarm_hub.util.units import format_duration

SORTS: Final = ("state", "age", "items", "name")
_STATES: Final = ("running", "queued", "failed", "cancelled", "completed")
_NODE_STATES: Final = ("up", "draining", "drained", "pending", "down", "banned")
_KEYS: Final = "q quits, s sorts by {}, ↑ ↓ choose a job, c cancels it"
_NARROW_KEYS: Final = "q quit  s sort:{}  ↑↓ c cancel"
# Lines that are neither a node nor a job.
_FRAME: Final = 6


@dataclass(slots=True)
class Overview:
    """What is known of a swarm, and what its user chose."""

    url: str
    nodes: list[dict[str, Any]] = field(default_factory=list)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    lost_at: float | None = None
    sort: str = SORTS[0]
    chosen: str | None = None
    # The job that is to be cancelled once its user has confirmed it.
    asked: str | None = None
    said: str = ""
    _views: dict[str, JobView] = field(default_factory=dict)

    def see(self, nodes: list[dict[str, Any]], jobs: list[dict[str, Any]], now: float) -> None:
        """Take in what the gateway says."""
        self.lost_at = None
        self.nodes, self.jobs = nodes, jobs
        views = {each["job_id"]: self._views.get(each["job_id"]) or JobView(now) for each in jobs}
        for each in jobs:
            views[each["job_id"]].see_status(each, now)
        self._views = views

    def rate(self, job: Mapping[str, Any]) -> float | None:
        """Return the items a second of an unfinished job."""
        return None if job["finished_at"] else self._views[job["job_id"]].rate()

    def left_s(self, job: Mapping[str, Any]) -> float | None:
        """Return when an unfinished job will be done, in seconds from now."""
        return None if job["finished_at"] else self._views[job["job_id"]].left_s()

    def sorted_jobs(self) -> list[dict[str, Any]]:
        """Return the jobs in the order that was chosen; the newest first where it says nothing."""
        newest = sorted(self.jobs, key=lambda job: str(job["job_id"]), reverse=True)
        match self.sort:
            case "state":
                return sorted(newest, key=lambda job: _STATES.index(job["state"]))
            case "items":
                return sorted(newest, key=lambda job: -(job["progress"]["items"] or 0))
            case "name":
                return sorted(newest, key=lambda job: (not job.get("name"), job.get("name") or ""))
        return newest

    def choose(self, step: int) -> None:
        """Choose the next job, or the one before."""
        order = [job["job_id"] for job in self.sorted_jobs()]
        if not order:
            self.chosen = None
        elif self.chosen not in order:
            self.chosen = order[0]
        else:
            self.chosen = order[min(len(order) - 1, max(0, order.index(self.chosen) + step))]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the screen."""

    text: str
    kind: str = ""


def overview_lines(
    view: Overview, now: float, width: int | None, height: int | None = None
) -> list[Line]:
    """Return the lines; None for a width and a height without an end, as in a pipe."""
    lines = [Line(_cut(each, width), "title") for each in _heading(view, now, width)]
    jobs, nodes = view.sorted_jobs(), _sorted_nodes(view.nodes)
    if height is not None:
        room = max(2, height - _FRAME - len(lines))
        nodes = nodes[: max(1, room - min(len(jobs), room // 2))]
        jobs = _around(jobs, view.chosen, max(1, room - len(nodes)))
    if nodes:
        heading, *rows = table_lines(_node_columns(nodes), width)
        lines += [Line(""), Line(heading, "heading"), *(Line(row) for row in rows)]
    if jobs:
        heading, *rows = table_lines(_job_columns(view, jobs), width)
        lines += [Line(""), Line(heading, "heading")]
        for job, row in zip(jobs, rows, strict=True):
            is_chosen = height is not None and job["job_id"] == view.chosen
            lines.append(Line(row, "chosen" if is_chosen else ""))
    if height is None:
        return lines
    question = f"Cancel {view.asked}? y/n" if view.asked else view.said
    long = _KEYS.format(view.sort)
    keys = long if width is None or len(long) <= width else _NARROW_KEYS.format(view.sort)
    return [*lines, Line(""), Line(_cut(question or keys, width), "question" if question else "")]


def _heading(view: Overview, now: float, width: int | None) -> list[str]:
    up = [node for node in view.nodes if node["slots"] is not None]
    states = [job["state"] for job in view.jobs]
    slots = sum(node["slots"] for node in up)
    busy = sum(min(node["slots"], node["assignments"]) for node in up)
    queued, running = states.count("queued"), states.count("running")
    said = (
        f"{len(up)} of {len(view.nodes)} nodes up, {busy} of {slots} slots busy; "
        f"jobs: {running} running, {queued} queued"
    )
    if width is not None and len(said) > width:
        said = (
            f"{len(up)}/{len(view.nodes)} up, {busy}/{slots} busy, {running} run, {queued} queued"
        )
    return [said] if view.lost_at is None else [said, gone(now - view.lost_at)]


def _sorted_nodes(nodes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    def key(node: Mapping[str, Any]) -> tuple[int, int, str]:
        state = node["state"]
        known = _NODE_STATES.index(state) if state in _NODE_STATES else len(_NODE_STATES)
        return known, -node["assignments"], node["name"]

    return sorted(nodes, key=key)


def _node_columns(nodes: Sequence[Mapping[str, Any]]) -> list[Column]:
    def percent(node: Mapping[str, Any], name: str) -> str:
        value = node["telemetry"][name]
        return "" if value is None else f"{value:.0f}%"

    busy = ["" if each["slots"] is None else f"{each['assignments']}/{each['slots']}"
            for each in nodes]  # fmt: skip
    why = [each["ban_reason"] or each["drain_reason"] or each["refuses"] or "" for each in nodes]
    return [
        Column("NODE", [each["name"] for each in nodes], may_be_cut=True),
        Column("STATE", [each["state"] for each in nodes], 1),
        Column("BUSY", busy, 2, is_number=True),
        Column("CPU", [percent(each, "cpu_percent") for each in nodes], 4, is_number=True),
        Column("BATTERY", [percent(each, "battery_percent") for each in nodes], 5, is_number=True),
        Column("TAKES NO WORK", why, 3, may_be_cut=True),
    ]


def _job_columns(view: Overview, jobs: Sequence[Mapping[str, Any]]) -> list[Column]:
    rates = ["" if (rate := view.rate(job)) is None else per_second(rate) for job in jobs]
    lefts = ["" if (left_s := view.left_s(job)) is None else format_duration(left_s)
             for job in jobs]  # fmt: skip
    return [
        Column("JOB", [each["job_id"] for each in jobs], may_be_cut=True),
        Column("STATE", [each["state"] for each in jobs], 1),
        Column("NAME", [each.get("name") or "" for each in jobs], 6, may_be_cut=True),
        Column("DONE", [_percent(each["progress"]) for each in jobs], 2, is_number=True),
        Column("ITEMS", [f"{each['progress']['items'] or 0:,}" for each in jobs], 4,
               is_number=True),
        Column("RATE", rates, 5, is_number=True),
        Column("ETA", lefts, 3, is_number=True),
        Column("AGE", [age(each["created_at"]) for each in jobs], 7, is_number=True),
        Column("OWNER", [each.get("owner") or "" for each in jobs], 8, may_be_cut=True),
    ]  # fmt: skip


def _percent(progress: Mapping[str, Any]) -> str:
    of = progress["items"]
    return f"{100 * progress['items_done'] // of}%" if of else ""


def _around(jobs: list[dict[str, Any]], chosen: str | None, count: int) -> list[dict[str, Any]]:
    """Return so many jobs, with the chosen one among them."""
    at = next((index for index, job in enumerate(jobs) if job["job_id"] == chosen), 0)
    first = max(0, min(at - count // 2, len(jobs) - count))
    return jobs[first : first + count]


def _cut(text: str, width: int | None) -> str:
    return text if width is None or len(text) <= width else f"{text[: max(0, width - 1)]}…"
