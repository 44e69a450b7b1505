"""Short jobs that have just ended, as the store has them: whoever waits for one asks at once."""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from swarm_hub.core import Hub
from swarm_hub.models.event import DurableEvent, EventType
from swarm_hub.models.job import Job, JobState
from swarm_hub.models.shard import ShardResult
from swarm_hub.storage.queries.jobs import Finish
from swarm_hub.storage.queries.overview import NodeShare

_JOBS_MAX: Final = 64
# Of one job; together at most 4 MiB.
_RESULTS_MAX: Final = 64
_BYTES_MAX: Final = 64 * 1024

Overview = tuple[Job, list[ShardResult], list[NodeShare]]


class RecentJobs:
    """What `overview` reads of a job, for the last few whose every shard took one attempt."""

    def __init__(self, hub: Hub) -> None:
        self._jobs: dict[str, Overview] = {}
        hub.bus.listen(DurableEvent, self._on_event)

    def get(self, job_id: str) -> Overview | None:
        """Return a job that ended a moment ago; None if the store has to be asked."""
        return self._jobs.get(job_id)

    def remember(
        self, job: Job, finish: Finish, results: Sequence[ShardResult], n_attempts: int
    ) -> None:
        """Keep a job whose end is committed, if it is short; `results` are those that count."""
        is_plain = len(results) == n_attempts == finish.n_shards == finish.n_done_shards
        size_bytes = len(finish.result_inline or b"") + sum(each.size_bytes for each in results)
        if (
            finish.state is not JobState.COMPLETED
            or finish.result_inline is None
            or not is_plain
            or len(results) > _RESULTS_MAX
            or size_bytes > _BYTES_MAX
        ):
            return
        ended = dataclasses.replace(
            job,
            state=finish.state,
            finished_at=finish.at,
            failures=finish.failures,
            result_sha=finish.result_sha,
            result_bytes=finish.result_bytes,
            result_inline=finish.result_inline,
            n_shards=finish.n_shards,
            n_retries=finish.n_retries,
            n_done_items=finish.n_done_items,
            n_done_shards=finish.n_done_shards,
            n_failed_items=finish.n_failed_items,
        )
        ordered = sorted(results, key=lambda result: result.first_item)
        self._jobs[job.id] = ended, ordered, _shares_of(ordered)
        if len(self._jobs) > _JOBS_MAX:
            del self._jobs[next(iter(self._jobs))]

    def mark_read(self, job_id: str, at: float) -> None:
        """Note when somebody first read its result, as the store does."""
        if (found := self._jobs.get(job_id)) is not None:
            self._jobs[job_id] = dataclasses.replace(found[0], read_at=at), *found[1:]

    def _on_event(self, event: DurableEvent) -> None:
        if event.event_type is EventType.JOB_PRUNED and event.job_id is not None:
            self._jobs.pop(event.job_id, None)


def _shares_of(results: Sequence[ShardResult]) -> list[NodeShare]:
    """Return per node what it did, busiest first."""
    by_node: dict[str, list[ShardResult]] = defaultdict(list)
    for result in results:
        by_node[result.node_id].append(result)
    shares = [
        NodeShare(
            node_id,
            len(done),
            len(done),
            sum(each.wall_s for each in done),
            sum(each.cpu_s for each in done),
            max(
                (each.peak_memory_bytes for each in done if each.peak_memory_bytes is not None),
                default=None,
            ),
        )
        for node_id, done in sorted(by_node.items())
    ]
    return sorted(shares, key=lambda share: share.shards, reverse=True)
