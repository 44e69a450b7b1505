"""Turns the gathered outcomes into rows and events; pure."""

from collections.abc import Sequence

from swarm_hub.components.gateway.dispatch.pending_commit import PendingCommit
from swarm_hub.components.gateway.results import endings
from swarm_hub.components.scheduler import (
    AssignmentChanged,
    AssignmentOffered,
    JobStarted,
    Outcome,
)
from swarm_hub.models.event import EventType, NewEvent
from swarm_hub.models.messages import Result
from swarm_hub.models.receipt import Receipt
from swarm_hub.models.shard import Assignment, AssignmentState, Shard, ShardResult
from swarm_hub.storage import Write
from swarm_hub.storage.queries import jobs, receipts, shard_results
from swarm_hub.storage.queries.jobs import Finish


def writes(commit: PendingCommit, now: float) -> list[Write]:
    """Return the statements that write what was gathered, in the same order everywhere."""
    return [
        *commit.writes,
        *(write for new in commit.new_jobs.values() for write in new.writes),
        *(write for each in commit.changes.values() for change in each for write in change.writes),
        *_writes(commit.outcome, now),
        shard_results.put(commit.results),
        receipts.keep((job_id, each) for (job_id, _), each in commit.receipts.items()),
    ]


def events(commit: PendingCommit, finishes: Sequence[Finish]) -> list[NewEvent]:
    """Return the gathered durable events; those of the jobs that end with this commit come last."""
    return [
        *commit.events,
        *(new.queued for new in commit.new_jobs.values()),
        *(change.changed for each in commit.changes.values() for change in each),
        *_events(commit.outcome, commit.results),
        *(endings.ended(finish) for finish in finishes),
    ]


def started(outcome: Outcome) -> list[str]:
    """Return the jobs that began to run."""
    return [each.job_id for each in outcome.transitions if isinstance(each, JobStarted)]


def given(
    shard: Shard, node_id: str, result: Result, receipt: Receipt | None, *, counted: bool
) -> ShardResult:
    """Return the row of a result as a node gave it; it names its receipt if one is kept."""
    return ShardResult(
        result.assignment_id, shard.job_id, shard.index, shard.first_item, shard.n_items,
        node_id, result.sha, result.size_bytes, result.body, result.wall_s, result.cpu_s,
        result.peak_memory_bytes, result.fuel, result.text, counted,
        None if receipt is None else receipt.sha,
    )  # fmt: skip


def _writes(outcome: Outcome, now: float) -> list[Write]:
    offered: list[Assignment] = []
    changed: dict[str, tuple[Assignment, str | None]] = {}
    for transition in outcome.transitions:
        if isinstance(transition, AssignmentOffered):
            offered.append(transition.assignment)
        elif isinstance(transition, AssignmentChanged):
            # The newest state wins; an ACK that came with its result needs no row of its own.
            changed[transition.assignment.id] = (transition.assignment, transition.reason)
    return [
        jobs.start(started(outcome), now),
        jobs.put_shards((each.shard, each.accepted) for each in outcome.shards.values()),
        jobs.offer(offered, now),
        # An ACK alone changes nothing that a restart needs to know.
        jobs.end_assignments(
            (each for each in changed.values() if each[0].state is not AssignmentState.ACCEPTED),
            now,
        ),
    ]


def _events(outcome: Outcome, results: Sequence[ShardResult]) -> list[NewEvent]:
    found = [
        NewEvent(EventType.JOB_RUNNING, {"job_id": job_id}, job_id) for job_id in started(outcome)
    ]
    for transition in outcome.transitions:
        if isinstance(transition, AssignmentOffered):
            offered = transition.assignment
            data = {
                "job_id": offered.job_id,
                "index": offered.index,
                "attempt": offered.attempt,
                "node_id": offered.node_id,
                "n_items": transition.n_items,
            }
            found.append(NewEvent(EventType.SHARD_ASSIGNED, data, offered.job_id))
    for result in results:
        if not result.counted:
            continue
        data = {
            "job_id": result.job_id,
            "index": result.index,
            "node_id": result.node_id,
            "n_items": result.n_items,
            "wall_s": result.wall_s,
        }
        found.append(NewEvent(EventType.SHARD_DONE, data, result.job_id))
    for shard, node_id, text in outcome.failures:
        data = {
            "job_id": shard.job_id,
            "index": shard.index,
            "node_id": node_id,
            "message": text,
        }
        found.append(NewEvent(EventType.SHARD_FAILED, data, shard.job_id))
    if outcome.strategy_fault is not None:
        message = f"the strategy failed, adaptive took over: {outcome.strategy_fault}"
        failed = {"component": "scheduler", "message": message}
        found.append(NewEvent(EventType.COMPONENT_FAILED, failed))
    for shard, reason in outcome.returned:
        data = {"job_id": shard.job_id, "index": shard.index, "reason": reason}
        found.append(NewEvent(EventType.SHARD_RETURNED, data, shard.job_id))
    return found
