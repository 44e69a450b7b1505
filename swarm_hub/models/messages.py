"""The fields of the signed messages between gateway and worker (docs/protocol.md)."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypeGuard

from swarm_hub.models.call import ModuleCall
from swarm_hub.models.features import read_features
from swarm_hub.util.shape import items, sha256, size, told

ASSIGN: Final = "assign"
ACK: Final = "ack"
NACK: Final = "nack"
RESULT: Final = "result"
RESULT_ACK: Final = "result_ack"
CANCEL: Final = "cancel"
DRAIN: Final = "drain"
ROTATED: Final = "rotated"
REVOKED: Final = "revoked"

_ID_MAX: Final = 80
_TEXT_MAX: Final = 8192
_REASON_MAX: Final = 500
_DRAIN_REASON_MAX: Final = 200
_SHARDS_MAX: Final = 4096
_SHARD: Final = ("assignment_id", "input_sha", "size_bytes", "data")


@dataclass(frozen=True, slots=True)
class OfferedShard:
    """One assignment in an `assign`; `data` is None when it is fetched by its hash."""

    assignment_id: str
    input_sha: str
    size_bytes: int
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Assign:
    """Shards of one job for one node; they share one call."""

    call: ModuleCall
    module_bytes: int
    shards: tuple[OfferedShard, ...]

    def to_wire(self) -> dict[str, Any]:
        """Return the fields of the message."""
        return {
            "call": self.call.to_plain(),
            "module_bytes": self.module_bytes,
            "shards": [
                [shard.assignment_id, shard.input_sha, shard.size_bytes, shard.data]
                for shard in self.shards
            ],
        }


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What is wrong in an `assign` or a `result`, and the assignments concerned.

    There are none if not even their ids can be read.
    """

    reason: str
    assignment_ids: tuple[str, ...]


def read_assign(fields: Mapping[str, Any]) -> tuple[Assign | None, list[Unreadable]]:
    """Read an `assign`: what part of it can be taken, and why the rest can't.

    Raises KeyError or ValueError if it has no list of shards at all.
    """
    records = items(fields["shards"], "shards")
    if len(records) > _SHARDS_MAX:
        raise ValueError(f"{len(records)} shards; at most {_SHARDS_MAX} are accepted")
    shards: list[OfferedShard] = []
    wrong: dict[str, list[str]] = defaultdict(list)
    for record in records:
        try:
            shards.append(_offered(record))
        except ValueError as error:
            wrong[f"assign: a shard: {error}"] += _id_in(record)
    assign = None
    try:
        call, module_bytes = fields["call"], fields["module_bytes"]
        assign = Assign(
            ModuleCall.from_plain(call), size(module_bytes, "module_bytes"), tuple(shards)
        )
    except (KeyError, ValueError) as error:
        wrong[f"assign: {told(error)}"] += [shard.assignment_id for shard in shards]
    return assign, [Unreadable(reason, tuple(ids)) for reason, ids in wrong.items()]


@dataclass(frozen=True, slots=True)
class Result:
    """A finished assignment; `code` is `ok` or names the failure; `body` None means a blob.

    `text` is what a failure means, or what a command that did not fail wrote to stderr.
    """

    assignment_id: str
    code: str
    text: str
    input_sha: str
    sha: str
    size_bytes: int
    body: bytes | None
    wall_s: float
    cpu_s: float
    # None if it was not measured; fuel is only counted if the job asked for it.
    peak_memory_bytes: int | None = None
    fuel: int | None = None

    def to_wire(self) -> dict[str, Any]:
        """Return the fields of the message."""
        return {
            "id": self.assignment_id,
            "code": self.code,
            "text": self.text,
            "input_sha": self.input_sha,
            "sha": self.sha,
            "size": self.size_bytes,
            "body": self.body,
            "wall_s": self.wall_s,
            "cpu_s": self.cpu_s,
            "peak": self.peak_memory_bytes,
            "fuel": self.fuel,
        }

    @classmethod
    def from_wire(cls, fields: Mapping[str, Any]) -> Self:
        """Read the message; raises KeyError, TypeError or ValueError on a wrong shape."""
        body = fields["body"]
        if body is not None and not isinstance(body, bytes):
            raise TypeError("'body' is neither bytes nor null")
        return cls(
            checked_id(fields["id"]),
            str(fields["code"])[:64],
            # PostgreSQL has no text with NUL in it.
            str(fields["text"])[:_TEXT_MAX].replace("\0", "\N{REPLACEMENT CHARACTER}"),
            sha256(fields["input_sha"], "input_sha"),
            sha256(fields["sha"], "sha"),
            size(fields["size"], "size"),
            body,
            _seconds(fields["wall_s"]),
            _seconds(fields["cpu_s"]),
            _measured(fields.get("peak")),
            _measured(fields.get("fuel")),
        )


def read_result(fields: Mapping[str, Any]) -> Result | Unreadable:
    """Read a `result`, or what is wrong with it; raises ValueError if it names no assignment."""
    try:
        return Result.from_wire(fields)
    except (KeyError, TypeError, ValueError) as error:
        assignment_id = fields.get("id") if isinstance(fields, Mapping) else None
        if not _is_id(assignment_id):
            raise ValueError(told(error)) from None
        return Unreadable(f"result: {told(error)}", (assignment_id,))


@dataclass(frozen=True, slots=True)
class Nack:
    """Assignments that a worker gives back; `lacks` names features that it does not know."""

    assignment_ids: tuple[str, ...]
    reason: str
    lacks: frozenset[str] = frozenset()

    def to_wire(self) -> dict[str, Any]:
        """Return the fields of the message."""
        fields = {"ids": list(self.assignment_ids), "reason": self.reason}
        return {**fields, "lacks": sorted(self.lacks)} if self.lacks else fields

    @classmethod
    def from_wire(cls, fields: Mapping[str, Any]) -> Self:
        """Read the message; raises KeyError or ValueError on a wrong shape."""
        return cls(
            tuple(ids(fields)),
            str(fields["reason"])[:_REASON_MAX],
            read_features(fields.get("lacks")),
        )


def ids(fields: Mapping[str, Any]) -> list[str]:
    """Read the assignment ids of an ack, nack, cancel or result_ack; raises KeyError, ValueError.

    What can't be an id is dropped, as no assignment known here has it.
    """
    return [each for each in items(fields["ids"], "ids") if _is_id(each)]


def read_drain(fields: Mapping[str, Any]) -> tuple[object, str | None]:
    """Read which node a drain names, if any, and its reason; raises KeyError without one."""
    reason = fields["reason"]
    return fields.get("node"), None if reason is None else str(reason)[:_DRAIN_REASON_MAX]


def checked_id(value: object) -> str:
    """Return an assignment id of a plausible shape; raises ValueError."""
    if not isinstance(value, str) or not 0 < len(value) <= _ID_MAX:
        raise ValueError(f"not an assignment id: {value!r:.100}")
    return value


def _is_id(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= _ID_MAX


def _offered(record: object) -> OfferedShard:
    if not isinstance(record, list):
        raise ValueError("it is not a list")
    if len(record) < len(_SHARD):
        raise ValueError(f"{_SHARD[len(record)]!r} is missing")
    data = record[3]
    if data is not None and not isinstance(data, bytes):
        raise ValueError("'data' is neither bytes nor null")
    return OfferedShard(
        checked_id(record[0]), sha256(record[1], "input_sha"), size(record[2], "size_bytes"), data
    )


def _id_in(record: object) -> list[str]:
    return [record[0]] if isinstance(record, list) and record and _is_id(record[0]) else []


def _seconds(value: object) -> float:
    # Durations are CBOR floats; one that is not finite would poison every average it enters.
    if not isinstance(value, float) or not math.isfinite(value):
        raise ValueError(f"not a duration: {value!r:.100}")
    return max(0.0, value)


def _measured(value: object) -> int | None:
    """Read a measurement, which has 64 bits in the store; older workers don't send it."""
    if value is None:
        return None
    if (count := size(value, "peak or fuel")) >= 2**63:
        raise ValueError(f"not a measurement: {value!r:.100}")
    return count
