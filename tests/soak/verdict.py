"""What the stores of a part must say when all is quiet: everything once, nothing missing."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.soak.jobs import Wanted
from tests.soak.stores import Rows

_ENDS = {
    "completed": "job_completed",
    "failed": "job_failed",
    "cancelled": "job_cancelled",
}
# What may become of a shard of a job that has ended; the items of one that was split are in others.
_DONE = {"done", "skipped"}
_CLOSED = _DONE | {"dead", "cancelled"}


@dataclass(slots=True)
class Verdict:
    """What was found in the store of a part."""

    shards: int
    again: int
    lost: int
    double: int
    problems: list[str]
    # Results that others contradicted.
    lies: int = 0
    # Shards that were split to find items that fail, and shards of items that were left out.
    split: int = 0
    skipped: int = 0


def judge(rows: Rows, submitted: Iterable[Wanted]) -> Verdict:
    """Compare the store of a part with what its clients were told."""
    problems: list[str] = []
    jobs = {row[0]: row[1:] for row in rows("SELECT id, state, n_items, n_failed_items FROM jobs")}
    wanted = {each.job_id: each for each in submitted if each.job_id is not None}
    problems += [f"job {job_id} was accepted and is gone" for job_id in wanted.keys() - jobs.keys()]
    problems += [
        f"job {job_id} ({jobs[job_id][1]}) is nobody's" for job_id in jobs.keys() - wanted.keys()
    ]
    for job_id in jobs.keys() & wanted.keys():
        heard_state, state = wanted[job_id].state, jobs[job_id][0]
        if heard_state != state:
            problems.append(f"job {job_id} is {state}, and its client was told {heard_state}")
    results, items = _results(rows)
    shards = _shards(rows)
    told = _events(rows)
    lost = double = 0
    for job_id, (state, n_items, n_failed_items) in jobs.items():
        counted, heard = results[job_id], told[job_id, "shard_done"]
        double += sum(each - 1 for each in counted.values())
        double += sum(each - 1 for each in heard.values())
        if counted.keys() != heard.keys():
            problems.append(f"job {job_id}: other shards are in results than in shard_done")
        of_job = shards[job_id]
        problems += [f"job {job_id}: {each}" for each in _misplaced(of_job)]
        done = {each.index: each for each in of_job if each.state == "done"}
        lost += len(done.keys() - counted.keys())
        for index in counted.keys() - done.keys():
            problems.append(f"job {job_id}: shard {index} is not done and has a result that counts")
        n_skipped = sum(each.n_items for each in of_job if each.state == "skipped")
        if n_skipped != n_failed_items:
            problems.append(f"job {job_id}: {n_skipped} items skipped, told {n_failed_items}")
        if state == "completed":
            n_placed = sum(each.n_items for each in of_job if each.state in _DONE)
            lost += n_items - n_placed
            if items[job_id] + n_skipped != n_items:
                problems.append(f"job {job_id}: {items[job_id]} of {n_items} items have a result")
            if job_id in wanted and (wrong := _other_items_skipped(of_job, wanted[job_id])):
                problems.append(f"job {job_id}: {wrong}")
        ends = {kind: told[job_id, kind].total() for kind in _ENDS.values()}
        if ends != {kind: int(_ENDS.get(state) == kind) for kind in _ENDS.values()}:
            problems.append(f"job {job_id} is {state}, its events say {ends}")
        if told[job_id, "job_queued"].total() != 1:
            problems.append(f"job {job_id} has {told[job_id, 'job_queued'].total()} job_queued")
    problems += _gaps(rows)
    bans = sum(counts.total() for (_, kind), counts in told.items() if kind == "node_banned")
    problems += [f"{bans} × node_banned"] if bans else []
    ((again,),) = rows("SELECT count(*) FROM assignments WHERE attempt > 1")
    ((lies,),) = rows("SELECT coalesce(sum(contradictions), 0) FROM nodes")
    n_shards_done = sum(map(len, results.values()))
    states = Counter(each.state for of_job in shards.values() for each in of_job)
    return Verdict(
        n_shards_done, int(again), lost, double, problems, int(lies),
        states["split"], states["skipped"],
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Shard:
    index: int
    state: str
    first_item: int
    n_items: int

    @property
    def end(self) -> int:
        return self.first_item + self.n_items


def _shards(rows: Rows) -> dict[str, list[_Shard]]:
    """Return each job's shards in the order of their items."""
    found: dict[str, list[_Shard]] = defaultdict(list)
    for job_id, *shard in rows(
        "SELECT job_id, idx, state, first_item, n_items FROM shards ORDER BY first_item, idx"
    ):
        found[job_id].append(_Shard(*shard))
    return found


def _misplaced(shards: Iterable[_Shard]) -> list[str]:
    """Return what is wrong with the places of items: each must be in one shard, and none open."""
    problems = []
    end = 0
    for each in shards:
        if each.state == "split":
            continue
        if each.state not in _CLOSED:
            problems.append(f"shard {each.index} is still {each.state}")
        if each.first_item != end:
            problems.append(f"shard {each.index} begins at {each.first_item}, expected {end}")
        end = each.end
    return problems


def _other_items_skipped(shards: Iterable[_Shard], wanted: Wanted) -> str | None:
    skipped = [
        item
        for each in shards
        if each.state == "skipped"
        for item in range(each.first_item, each.end)
    ]
    return None if skipped == list(wanted.bad) else f"{skipped} skipped, expected {wanted.bad}"


def _results(rows: Rows) -> tuple["_Counters", Counter[str]]:
    found = _Counters()
    items: Counter[str] = Counter()
    for job_id, index, n_items in rows(
        "SELECT job_id, idx, n_items FROM results WHERE counted = 1"
    ):
        found[job_id][index] += 1
        items[job_id] += n_items
    return found, items


def _events(rows: Rows) -> "_Counters":
    """Count each job's events of each kind by the shard they are about."""
    found = _Counters()
    wanted = "'shard_done', 'job_queued', 'job_completed', 'job_failed', 'job_cancelled'"
    for kind, job_id, text in rows(
        f"SELECT event_type, job_id, data FROM events WHERE event_type IN ({wanted}, 'node_banned')"
    ):
        found[job_id or "", kind][json.loads(text).get("index")] += 1
    return found


def _gaps(rows: Rows) -> list[str]:
    ((count, first, last),) = rows("SELECT count(*), min(seq), max(seq) FROM events")
    return [] if (first, last) == (1, count) else [f"{count} events, seq {first} to {last}"]


class _Counters(dict[Any, Counter[Any]]):
    """Counters that are empty until something is counted."""

    def __missing__(self, key: Any) -> Counter[Any]:
        made: Counter[Any] = Counter()
        self[key] = made
        return made
