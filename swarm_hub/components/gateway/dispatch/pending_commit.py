"""What commits next, and what may happen only after that."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from swarm_hub.components.scheduler import JobEnded, Outcome
from swarm_hub.models.event import NewEvent
from swarm_hub.models.receipt import Receipt
from swarm_hub.models.shard import ShardResult, job_of
from swarm_hub.storage import Write


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job whose submitter waits for its commit."""

    writes: list[Write]
    queued: NewEvent
    committed: "asyncio.Future[None]"


@dataclass(frozen=True, slots=True)
class ChangedJob:
    """A job that was given other values, and whoever waits for the commit of that."""

    writes: list[Write]
    changed: NewEvent
    committed: "asyncio.Future[None]"

    def tell(self, error: Exception | None) -> None:
        """Say that it is on disk, or why it isn't."""
        if self.committed.done():
            return
        if error is None:
            self.committed.set_result(None)
        else:
            self.committed.set_exception(error)


@dataclass(slots=True)
class PendingCommit:
    """The effects of some events, gathered while the last commit is on its way to the disk."""

    outcome: Outcome = field(default_factory=Outcome)
    results: list[ShardResult] = field(default_factory=list)
    # (job id, hash) → the envelope that carried some of the job's results
    receipts: dict[tuple[str, str], Receipt] = field(default_factory=dict)
    new_jobs: dict[str, NewJob] = field(default_factory=dict)
    # In the order in which they were made.
    changes: dict[str, list[ChangedJob]] = field(default_factory=lambda: defaultdict(list))
    writes: list[Write] = field(default_factory=list)
    events: list[NewEvent] = field(default_factory=list)
    # node id → the results that are to be acknowledged to it
    acks: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add_result(self, result: ShardResult, receipt: Receipt | None) -> None:
        """Take a result, and the receipt that it names, if any."""
        self.results.append(result)
        if receipt is not None:
            self.receipts[result.job_id, receipt.sha] = receipt

    def job_ids(self) -> set[str]:
        """Return the jobs that rows are written for."""
        return (
            self.outcome.job_ids()
            | {result.job_id for result in self.results}
            | self.new_jobs.keys()
            | self.changes.keys()
        )

    def tell_changes(self, error: Exception | None, job_ids: Iterable[str] | None = None) -> None:
        """Tell who waits for changes, of some jobs or of all, that they are on disk, or why not."""
        for job_id in self.changes if job_ids is None else job_ids:
            for change in self.changes.get(job_id, ()):
                change.tell(error)

    def ends(self) -> list[JobEnded]:
        """Return the jobs that end with this commit."""
        return [each for each in self.outcome.transitions if isinstance(each, JobEnded)]

    def only(self, wanted: Callable[[str], bool]) -> "PendingCommit":
        """Return the part of the jobs whose ids are `wanted`; leaves out what belongs to no job."""
        acks: dict[str, list[str]] = defaultdict(list)
        for node_id, assignment_ids in self.acks.items():
            acks[node_id] = [each for each in assignment_ids if wanted(job_of(each))]
        return PendingCommit(
            self.outcome.of(wanted),
            [result for result in self.results if wanted(result.job_id)],
            {key: receipt for key, receipt in self.receipts.items() if wanted(key[0])},
            {job_id: new for job_id, new in self.new_jobs.items() if wanted(job_id)},
            defaultdict(list, {k: each for k, each in self.changes.items() if wanted(k)}),
            acks=acks,
        )

    def without(self, job_ids: frozenset[str]) -> "PendingCommit":
        """Return everything but the parts of these jobs."""
        rest = self.only(lambda job_id: job_id not in job_ids)
        rest.writes, rest.events = self.writes, self.events
        return rest

    def __bool__(self) -> bool:
        return bool(
            self.outcome
            or self.results
            or self.new_jobs
            or self.changes
            or self.writes
            or self.events
            or any(self.acks.values())
        )
