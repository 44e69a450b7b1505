"""From what is gathered to rows and events; pure."""

import dataclasses
from collections.abc import Sequence
from typing import Final

from swarm_hub.components.gateway.gathered import Gathered
from swarm_hub.components.scheduler import (
    AssignmentChanged,
    AssignmentOffered,
    JobEnded,
    JobEntry,
    JobStarted,
    Outcome,
)
from swarm_hub.exceptions import HubError
from swarm_hub.models.call import ModuleCall
from swarm_hub.models.event import EventType, NewEvent
from swarm_hub.models.job import Job, JobState
from swarm_hub.models.messages import Result
from swarm_hub.models.receipt import Receipt
from swarm_hub.models.shard import Assignment, AssignmentState, Shard, ShardResult
from swarm_hub.storage import Write, jobs, receipts
from swarm_hub.storage.jobs import Finish

_ENDED: Final = {
    JobState.COMPLETED: EventType.JOB_COMPLETED,
    JobState.FAILED: EventType.JOB_FAILED,
    JobState.CANCELLED: EventType.JOB_CANCELLED,
}


def writes(gathered: Gathered, now: float) -> list[Write]:
    """Return the rows of what is gathered: a statement each, in an order that holds everywhere."""
    return [
        *gathered.writes,
        *(write for new in gathered.new_jobs.values() for write in new.writes),
        *_writes(gathered.outcome, now),
        jobs.put_results(gathered.results),
        receipts.keep((job_id, each) for (job_id, _), each in gathered.receipts.items()),
    ]


def events(gathered: Gathered, finishes: Sequence[Finish]) -> list[NewEvent]:
    """Return the durable events of what is gathered, last those of the jobs that end with it."""
    return [
        *gathered.events,
        *(new.queued for new in gathered.new_jobs.values()),
        *_events(gathered.outcome, gathered.results),
        *(ended(finish) for finish in finishes),
    ]


def started(outcome: Outcome) -> list[str]:
    """Return the jobs that began to run."""
    return [each.job_id for each in outcome.transitions if isinstance(each, JobStarted)]


def ended(finish: Finish) -> NewEvent:
    """Return the event of a job's end."""
    data = {
        "job_id": finish.job_id,
        "shards": finish.n_shards,
        "retries": finish.n_retries,
        "failures": list(finish.failures),
    }
    return NewEvent(_ENDED[finish.state], data, finish.job_id)


def given(
    shard: Shard, node_id: str, result: Result, receipt: Receipt | None, *, counted: bool
) -> ShardResult:
    """Return the row of a result as a node gave it; it names its receipt if that is kept."""
    return ShardResult(
        result.assignment_id, shard.job_id, shard.index, shard.first_item, shard.n_items,
        node_id, result.sha, result.size_bytes, result.body, result.wall_s, result.cpu_s,
        result.peak_memory_bytes, result.fuel, result.text, counted,
        None if receipt is None else receipt.sha,
    )  # fmt: skip


def unfolded(end: JobEnded, entry: JobEntry | None, now: float) -> Finish:
    """Return how a job ended, without its result."""
    assert entry is not None
    return Finish(
        end.job_id, end.state, now, end.failures, None, None, None, entry.n_cut, entry.n_retries
    )


def fold_failed(base: Finish, error: HubError) -> Finish:
    """Return the end of a job whose results can't be folded."""
    return dataclasses.replace(base, state=JobState.FAILED, failures=(str(error),))


def call(job: Job) -> ModuleCall:
    """Return how a job's module is called."""
    spec, limits = job.spec, job.spec.limits
    return ModuleCall(
        module_sha=job.module_sha,
        abi=spec.abi,
        entry=spec.entry,
        fuel=limits.fuel,
        memory_bytes=limits.memory,
        wall_time_s=limits.wall_time,
        output_bytes=limits.output,
        args=spec.args,
        env=spec.env,
        deterministic=spec.deterministic,
        script=spec.script,
    )


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
