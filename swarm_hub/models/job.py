"""A job: a Wasm module, a dataset and a spec."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Self

from swarm_hub.models.call import Script
from swarm_hub.util.plain import shallow


class JobState(StrEnum):
    """Where a job is in its life: queued → running → completed | failed | cancelled."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen to the job's shards."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class Split(StrEnum):
    """How a dataset falls into items; `records:N` is RECORDS with a record size."""

    I32 = "i32"
    LINES = "lines"
    JSON = "json"
    FILES = "files"
    RANGE = "range"
    # A text, which the module gets as an argument, one a call.
    ARGS = "args"
    RECORDS = "records"


# Nodes whose results were confirmed often enough then work alone.
ADAPTIVE: Final = "adaptive"
REDUNDANCY_MAX: Final = 7

# The job's own module folds the results.
REDUCE_MODULE: Final = "module"
# Names only: specs are checked, and the command line helps, without what folds.
REDUCERS: Final = ("sum", "min", "max", "count", "concat", "json", "list", "files", REDUCE_MODULE)


# What becomes of items on which the module fails: the job fails, or they are left out.
ON_ERROR_FAIL: Final = "fail"
ON_ERROR_SKIP: Final = "skip"


@dataclass(frozen=True, slots=True)
class JobLimits:
    """What a job asks for within the worker's own limits; None keeps the worker's limit.

    The gateway fixes `wall_time`, in seconds, of every new job.
    """

    fuel: int | None = None
    memory: int | None = None
    wall_time: float | None = None
    output: int | None = None


@dataclass(frozen=True, slots=True)
class Constraints:
    """Which nodes may run a job: `memory` in bytes, `max_temperature` in °C, battery in percent.

    `charging` keeps the job off devices that run on battery, `metered` = False off those whose
    network charges by volume.
    """

    memory: int | None = None
    min_battery: float | None = None
    max_temperature: float | None = None
    charging: bool = False
    metered: bool = True
    node_labels: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Self:
        """Rebuild constraints from the plain values that the store has."""
        pairs = tuple((name, text) for name, text in plain["node_labels"])
        return cls(**{**plain, "node_labels": pairs})


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """What a shard of exactly these items must give: the SHA-256 of its result, in hex."""

    first_item: int
    n_items: int
    sha: str


@dataclass(frozen=True, slots=True)
class JobSpec:
    """How to cut, call and fold; field names are those of the REST spec."""

    abi: str
    entry: str
    split: Split
    record_bytes: int
    reduce: str
    shard_size: int | None = None
    redundancy: int | str = 1
    deterministic: bool = False
    limits: JobLimits = field(default_factory=JobLimits)
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    priority: int = 0
    # Seconds from its submission until it must be done.
    deadline_s: float | None = None
    constraints: Constraints | None = None
    labels: tuple[tuple[str, str], ...] = ()
    # What people call it; None if it has no name.
    name: str | None = None
    script: Script | None = None
    # In item order, without overlaps.
    known_answers: tuple[KnownAnswer, ...] = ()
    # Whether a shard that fails is split until the items that fail are found, what becomes of
    # these, and how many of them may be left out; None is any number.
    isolate: bool = False
    on_error: str = ON_ERROR_FAIL
    max_failures: int | None = None
    # The language whose runtime its module is; None if the module is the submitter's own.
    runtime: str | None = None

    @property
    def compares(self) -> bool:
        """Whether results are compared with those of others, or with known answers."""
        return self.redundancy != 1 or bool(self.known_answers)

    def to_json(self) -> dict[str, Any]:
        """Return the plain values that `from_json` takes."""
        script = None if self.script is None else shallow(self.script)
        constraints = None if self.constraints is None else shallow(self.constraints)
        return {
            **shallow(self),
            "limits": shallow(self.limits),
            "constraints": constraints,
            "script": script,
            "known_answers": [shallow(each) for each in self.known_answers],
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Self:
        """Rebuild a spec from what `to_json` gave; the store is trusted, so nothing is checked."""
        constraints = plain.get("constraints")
        return cls(
            **{
                **plain,
                "constraints": constraints and Constraints.from_json(constraints),
                "split": Split(plain["split"]),
                "limits": JobLimits(**plain["limits"]),
                "args": tuple(plain["args"]),
                "env": tuple((key, value) for key, value in plain["env"]),
                "labels": tuple((key, value) for key, value in plain["labels"]),
                "script": Script(**plain["script"]) if plain.get("script") else None,
                "known_answers": tuple(
                    KnownAnswer(**each) for each in plain.get("known_answers", ())
                ),
            }
        )


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the store keeps it; times are seconds since the epoch.

    The numbers near the end are known once it has ended.
    """

    id: str
    state: JobState
    spec: JobSpec
    module_sha: str
    module_bytes: int
    dataset_sha: str
    n_items: int
    dataset_bytes: int
    range_start: int
    created_at: float
    owner: str
    started_at: float | None = None
    finished_at: float | None = None
    read_at: float | None = None
    failures: tuple[str, ...] = ()
    result_sha: str | None = None
    result_bytes: int | None = None
    result_inline: bytes | None = None
    n_shards: int = 0
    n_retries: int = 0
    n_done_items: int = 0
    n_done_shards: int = 0
    n_failed_items: int = 0
    # The hash of the index of the files that the dataset was made of; None if there is none.
    parts_sha: str | None = None

    @property
    def script_sha(self) -> str | None:
        """The hash of the script that the module interprets, if there is one."""
        return None if self.spec.script is None else self.spec.script.sha

    @property
    def program(self) -> str:
        """What a node's speed depends on: the module, and the script it interprets."""
        script_sha = self.script_sha
        return self.module_sha if script_sha is None else f"{self.module_sha}.{script_sha}"
