"""What the stores of a part must say when all is quiet: everything once, nothing missing."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.soak.load import Wanted
from tests.soak.stores import Rows

_ENDS = {
    "completed": "job_completed",
    "failed": "job_failed",
    "cancelled": "job_cancelled",
}


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


def judge(rows: Rows, submitted: Iterable[Wanted]) -> Verdict:
    """Compare the store of a part with what its clients were told."""
    problems: list[str] = []
    jobs = {
        row[0]: row[1:] for row in rows("SELECT id, state, idem_key, n_shards, n_items FROM jobs")
    }
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
    told = _events(rows)
    lost = double = 0
    for job_id, (state, _, n_shards, n_items) in jobs.items():
        counted, heard = results[job_id], told[job_id, "shard_done"]
        double += sum(each - 1 for each in counted.values())
        double += sum(each - 1 for each in heard.values())
        if counted.keys() != heard.keys():
            problems.append(f"job {job_id}: other shards are in results than in shard_done")
        if state == "completed":
            lost += len(set(range(n_shards)) - counted.keys())
            if items[job_id] != n_items:
                problems.append(f"job {job_id}: {items[job_id]} of {n_items} items have a result")
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
    return Verdict(n_shards_done, int(again), lost, double, problems, int(lies))


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
