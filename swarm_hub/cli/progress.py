"""How far along a job is, from its statuses and events, and the lines that tell it."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from swarm_hub.cli.tables import Column, table_lines
from swarm_hub.cli.wording import share, short_node_id
from swarm_hub.util.units import format_duration

_BAR_MIN: Final = 8
_BAR_MAX: Final = 40
# What was done within this time says how fast it goes.
_RATE_OVER_S: Final = 60.0
# Shards end in lumps: a shorter time says nothing.
_RATE_AFTER_S: Final = 2.0
_PERCENT: Final = 100


@dataclass(slots=True)
class NodeTally:
    """What a node does for a job."""

    running: int = 0
    shards: int = 0
    items: int = 0
    failures: int = 0
    # When it was given its first shard, and when it ended its last, by the gateway's clock.
    since: float = 0.0
    until: float = 0.0

    @property
    def rate(self) -> float | None:
        """The items that it does in a second."""
        return self.items / (self.until - self.since) if self.until > self.since else None


@dataclass(slots=True)
class JobView:
    """What is known of a job that is watched; `now` is always monotonic time in seconds."""

    began_at: float
    status: dict[str, Any] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, NodeTally] = field(default_factory=dict)
    lost_at: float | None = None
    # The newest of the shards that were given out again, and why.
    retried: str = ""
    _samples: deque[tuple[float, int]] = field(default_factory=deque)
    # The nodes that run a shard, by its index.
    _running: dict[int, list[str]] = field(default_factory=dict)

    def see_status(self, status: dict[str, Any], now: float) -> None:
        """Take in what the gateway says of the job."""
        self.status = status
        self.lost_at = None
        self._samples.append((now, status["progress"]["items_done"]))
        while len(self._samples) > 2 and now - self._samples[1][0] > _RATE_OVER_S:
            self._samples.popleft()

    def see_event(self, event: Mapping[str, Any]) -> None:
        """Take in a durable event of the job."""
        data = event["data"]
        match event["event_type"]:
            case "shard_assigned":
                self._running.setdefault(data["index"], []).append(data["node_id"])
                tally = self._tally(data["node_id"])
                tally.running += 1
                tally.since = tally.since or _seconds(event)
            case "shard_done":
                tally = self._tally(data["node_id"])
                tally.shards += 1
                tally.items += data["n_items"]
                tally.until = _seconds(event)
                self._ended(data["index"], data["node_id"])
            case "shard_failed":
                self._tally(data["node_id"]).failures += 1
                self._ended(data["index"], data["node_id"])
                name = self.name(data["node_id"])
                self.retried = f"shard {data['index']} on {name}: {data['message']}"
            case "shard_returned":
                self._ended(data["index"], data.get("node_id"))
                self.retried = f"shard {data['index']}: {data['reason']}"

    def name(self, node_id: str) -> str:
        """Return what a node is called."""
        return self.names.get(node_id) or short_node_id(node_id)

    @property
    def n_working(self) -> int:
        """How many nodes run a part of the job."""
        return sum(tally.running > 0 for tally in self.nodes.values())

    def rate(self) -> float | None:
        """Return the items done in a second, None while that is not known."""
        if len(self._samples) < 2:
            return None
        (since, before), (until, after) = self._samples[0], self._samples[-1]
        if until - since < _RATE_AFTER_S or after <= before:
            return None
        return (after - before) / (until - since)

    def left_s(self) -> float | None:
        """Return in how many seconds it is done if it goes on so."""
        rate, progress = self.rate(), self.status["progress"]
        if rate is None or not progress["items"]:
            return None
        return float((progress["items"] - progress["items_done"]) / rate)

    @property
    def running(self) -> frozenset[int]:
        """The shards that nodes run now."""
        return frozenset(self._running)

    def _tally(self, node_id: str) -> NodeTally:
        return self.nodes.setdefault(node_id, NodeTally())

    def _ended(self, index: int, node_id: str | None) -> None:
        """Note that a node runs a shard no more; None is the one that has had it longest."""
        running = self._running.get(index, [])
        ended = next((each for each in running if node_id in (None, each)), None)
        if ended is not None:
            running.remove(ended)
            self._tally(ended).running -= 1
        if not running:
            self._running.pop(index, None)


def bar_line(view: JobView, now: float, width: int) -> str:
    """Return the line with the bar, at most so wide; what matters least is left out first."""
    status, progress = view.status, view.status["progress"]
    ended = status["finished_at"] is not None
    counted = share(progress["items_done"], progress["items"])
    more = [counted]
    if ended:
        more.append(f"in {format_duration(status['duration_s'])}")
    else:
        if (left_s := view.left_s()) is not None:
            more.append(f"ETA {format_duration(left_s)}")
        if (rate := view.rate()) is not None:
            more.append(f"{per_second(rate)}")
        if view.n_working:
            more.append(_nodes(view.n_working))
        if progress["retries"]:
            more.append(_retries(progress["retries"]))
        more.append(format_duration(max(0.0, now - view.began_at)))
    while len(more) > 1 and len(_joined(status["state"], more)) + _BAR_MIN + 2 > width:
        more.pop()
    text = _joined(status["state"], more)
    room = min(_BAR_MAX, width - len(text) - 2)
    bar = progress_bar(progress["items_done"], progress["items"], room) if room >= _BAR_MIN else ""
    return _joined(status["state"], [bar, *more] if bar else more)[:width]


def below_lines(view: JobView, now: float) -> list[str]:
    """Return what stands under the bar: why it does not go on, and what goes wrong."""
    if view.lost_at is not None:
        return [gone(now - view.lost_at)]
    said = (("It waits", view.status.get("waits")), ("Problem", view.status.get("problem")))
    lines = [f"{words}: {text}" for words, text in said if text]
    if view.retried and not view.status.get("problem") and view.status["finished_at"] is None:
        lines.append(f"Retried: {view.retried}")
    return lines


def node_lines(view: JobView, width: int | None) -> list[str]:
    """Return a table of what each node does."""
    if not view.nodes:
        return []
    found = sorted(view.nodes.items(), key=lambda each: (-each[1].items, view.name(each[0])))
    tallies = [tally for _, tally in found]
    rates = ["" if each.rate is None else per_second(each.rate) for each in tallies]
    return table_lines(
        [
            Column("NODE", [view.name(node_id) for node_id, _ in found], may_be_cut=True),
            Column("RUNS", [f"{each.running}" for each in tallies], 1, is_number=True),
            Column("SHARDS", [f"{each.shards:,}" for each in tallies], 4, is_number=True),
            Column("ITEMS", [f"{each.items:,}" for each in tallies], 2, is_number=True),
            Column("RATE", rates, 3, is_number=True),
            Column("FAILED", [f"{each.failures}" if each.failures else "" for each in tallies], 5,
                   is_number=True),
        ],
        width,
    )  # fmt: skip


def plain_line(view: JobView) -> str:
    """Return how far it is as a line of a log."""
    status, progress = view.status, view.status["progress"]
    of = progress["items"]
    percent = f" ({_PERCENT * progress['items_done'] // of}%)" if of else ""
    parts = [f"{status['state']}: {progress['items_done']:,} of {of or 0:,} items{percent}"]
    if status["finished_at"] is not None:
        parts.append(f"in {format_duration(status['duration_s'])}")
    elif (rate := view.rate()) is not None:
        parts.append(per_second(rate))
    if status["finished_at"] is None:
        if (left_s := view.left_s()) is not None:
            parts.append(f"about {format_duration(left_s)} left")
        if view.n_working:
            parts.append(_nodes(view.n_working))
    if progress["retries"]:
        parts.append(_retries(progress["retries"]))
    return ", ".join(parts)


def gone(for_s: float) -> str:
    """Say that the gateway does not answer."""
    since = f" for {format_duration(for_s)}" if for_s >= 1 else ""
    return (
        f"The gateway does not answer{since}. The job is safe: what is done is on its disk, and "
        "what nodes run they go on with. Still trying; Ctrl-C ends only this command"
    )


def progress_bar(done: int, of: int | None, width: int = _BAR_MAX) -> str:
    """Return a bar that tells what is done by its characters: colours get lost in a log."""
    full = 0 if not of else min(width, width * done // of)
    return "━" * full + "·" * (width - full)


def per_second(rate: float) -> str:
    """Render how many items are done in a second."""
    return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"


def _seconds(event: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(event["time_fired"]).timestamp()


def _joined(state: str, parts: list[str]) -> str:
    return "  ".join([state, *parts])


def _nodes(count: int) -> str:
    return f"{count} node{'' if count == 1 else 's'}"


def _retries(count: int) -> str:
    return f"{count:,} {'retry' if count == 1 else 'retries'}"
