"""What a gateway commits for one shard after the other, as its dispatcher's records are made."""

import itertools
from collections.abc import Iterator

from swarm_hub.models.event import EventType, NewEvent
from swarm_hub.models.shard import (
    Assignment,
    AssignmentState,
    Shard,
    ShardResult,
    ShardState,
    assignment_id,
)
from swarm_hub.storage import Write
from swarm_hub.storage.queries import jobs, shard_results
from swarm_hub.util.hashing import sha256_hex

NOW = 1_000_000.0
NODE = "12D3KooWHFq8vH1xQp3gV8yCk1s1Yc4nq9y6Jd2mYz2ZbQ7y5n1A"
_BODY = b"x" * 100
_SHA = sha256_hex(_BODY)

Transition = tuple[list[Write], list[NewEvent]]


def shards_of(caller: int, callers: int, jobs: int) -> Iterator[Transition]:
    """Yield what one caller has to store for one shard after the other: offered, counted.

    Callers stand for slots, which share the jobs: the rows of one job are neighbours in the
    tables, those of many jobs touch as many pages.
    """
    for index in itertools.count(caller, callers):
        job_id, index_in_job = f"01KAWG0000000000000000{index % jobs:04}", index // jobs
        yield _offered(job_id, index_in_job)
        yield _counted(job_id, index_in_job)


def _offered(job_id: str, index: int) -> Transition:
    shard = Shard(job_id, index, ShardState.ASSIGNED, index, 1, 1)
    data = {"job_id": job_id, "index": index, "attempt": 1, "node_id": NODE, "n_items": 1}
    return (
        [
            jobs.put_shards([(shard, None)]),
            jobs.offer([_assignment(job_id, index, AssignmentState.OFFERED)], NOW),
        ],
        [NewEvent(EventType.SHARD_ASSIGNED, data, job_id)],
    )


def _counted(job_id: str, index: int) -> Transition:
    id_ = assignment_id(job_id, index, 1)
    shard = Shard(job_id, index, ShardState.DONE, index, 1, 1)
    result = ShardResult(
        id_, job_id, index, index, 1, NODE, _SHA, len(_BODY), _BODY, 0.1, 0.1
    )  # fmt: skip
    data = {"job_id": job_id, "index": index, "node_id": NODE, "n_items": 1, "wall_s": 0.1}
    return (
        [
            jobs.put_shards([(shard, id_)]),
            jobs.end_assignments(
                [(_assignment(job_id, index, AssignmentState.FINISHED), None)], NOW
            ),
            shard_results.put([result]),
        ],
        [NewEvent(EventType.SHARD_DONE, data, job_id)],
    )


def _assignment(job_id: str, index: int, state: AssignmentState) -> Assignment:
    return Assignment(assignment_id(job_id, index, 1), job_id, index, 1, NODE, state)
