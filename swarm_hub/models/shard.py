"""A shard, and the assignments that are its attempts."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class ShardState(StrEnum):
    """queued → assigned → done; assigned → queued when returned; the others end it.

    A shard that was split has its items in two later ones; the items of one that was skipped are
    left out of the job's result.
    """

    QUEUED = "queued"
    ASSIGNED = "assigned"
    DONE = "done"
    SPLIT = "split"
    SKIPPED = "skipped"
    DEAD = "dead"
    CANCELLED = "cancelled"


class AssignmentState(StrEnum):
    """offered → accepted → finished; the other four end an attempt without a counted result."""

    OFFERED = "offered"
    ACCEPTED = "accepted"
    FINISHED = "finished"
    REJECTED = "rejected"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"


def assignment_id(job_id: str, index: int, attempt: int) -> str:
    """Name one attempt at one shard; unique forever because attempts only count up.

    The id is the fencing token. It is derived, not random, so that the state machine needs no
    randomness and a log line shows its job, shard and attempt.
    """
    return f"{job_id}.{index}.{attempt}"


def job_of(assignment_id: str) -> str:
    """Return the job that an assignment id names; accepts any text, which may name none."""
    return assignment_id.partition(".")[0]


def seed_of(assignment_id: str) -> bytes:
    """Return eight bytes that are the same for each attempt at a shard, and for no other shard."""
    shard = assignment_id.rpartition(".")[0]
    return hashlib.sha256(shard.encode()).digest()[:8]


def index_of(assignment_id: str) -> int:
    """Return the index of the shard that an assignment id made by this hub names."""
    return int(assignment_id.split(".")[1])


@dataclass(frozen=True, slots=True)
class Shard:
    """A contiguous run of items, cut when it was first assigned; its bounds never change."""

    job_id: str
    index: int
    state: ShardState
    first_item: int
    n_items: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Cutting:
    """How far a job has been cut and done; `n_items` counts from the first item.

    `splits` are the ranges (first item, number of items) in which shards were split, in order,
    `n_found_items` how many of their items were left out by themselves, and `n_isolating` the
    attempts that failed on parts of them, which took `isolating_s` seconds.
    """

    n_shards: int = 0
    n_items: int = 0
    n_done_shards: int = 0
    n_done_items: int = 0
    n_retries: int = 0
    n_failed_items: int = 0
    splits: tuple[tuple[int, int], ...] = ()
    n_found_items: int = 0
    n_isolating: int = 0
    isolating_s: float = 0.0

    def was_split(self, first_item: int) -> bool:
        """Whether a shard that begins with this item was split, or is a part of one that was."""
        at = bisect_right(self.splits, first_item, key=lambda each: each[0]) - 1
        return at >= 0 and first_item < sum(self.splits[at])


def outermost(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return the ranges (first, length) that lie in no other, in order; none overlap in part."""
    found: list[tuple[int, int]] = []
    for first, length in sorted(ranges, key=lambda each: (each[0], -each[1])):
        if not found or first >= sum(found[-1]):
            found.append((first, length))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Assignment:
    """One attempt of one node at one shard."""

    id: str
    job_id: str
    index: int
    attempt: int
    node_id: str
    state: AssignmentState


@dataclass(frozen=True, slots=True)
class ShardResult:
    """A result: `body` is None when it is a blob; times in seconds.

    One that is not `counted` is compared with others; `receipt` is the hash of its signed envelope
    if that is kept.
    """

    assignment_id: str
    job_id: str
    index: int
    first_item: int
    n_items: int
    node_id: str
    sha: str
    size_bytes: int
    body: bytes | None
    wall_s: float
    cpu_s: float
    peak_memory_bytes: int | None = None
    fuel: int | None = None
    # The tail of what a command wrote to stderr.
    stderr: str = ""
    counted: bool = True
    receipt: str | None = None
