"""The fields of the signed messages between gateway and worker (docs/protocol.md)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from swarm_hub.models.call import ModuleCall
from swarm_hub.util.hashing import SHA256_HEX

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
_SHARDS_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class OfferedShard:
    """One assignment in an `assign`; `data` is None when it is fetched by its hash."""

    assignment_id: str
    input_sha: str
    size_bytes: int
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Assign:
    """Shards of one job for one node; the call is said once for all of them."""

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

    @classmethod
    def from_wire(cls, fields: Mapping[str, Any]) -> Self:
        """Read the message; raises KeyError, TypeError or ValueError on a wrong shape."""
        shards = fields["shards"]
        if not isinstance(shards, list) or len(shards) > _SHARDS_MAX:
            raise ValueError("assign: shards must be a short list")
        return cls(
            ModuleCall.from_plain(fields["call"]),
            _count(fields["module_bytes"]),
            tuple(_offered(*shard) for shard in shards),
        )


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
    # None where it was not measured; the fuel counts only where the job asked for it.
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
            raise TypeError("result: body must be bytes or null")
        return cls(
            checked_id(fields["id"]),
            str(fields["code"])[:64],
            # PostgreSQL has no text with NUL in it.
            str(fields["text"])[:_TEXT_MAX].replace("\0", "\N{REPLACEMENT CHARACTER}"),
            _sha(fields["input_sha"]),
            _sha(fields["sha"]),
            _count(fields["size"]),
            body,
            _seconds(fields["wall_s"]),
            _seconds(fields["cpu_s"]),
            _measured(fields.get("peak")),
            _measured(fields.get("fuel")),
        )


def ids(fields: Mapping[str, Any]) -> list[str]:
    """Read the assignment ids of an ack, nack, cancel or result_ack."""
    found: Sequence[Any] = fields["ids"]
    if not isinstance(found, list):
        raise TypeError("ids must be a list")
    return [checked_id(each) for each in found]


def checked_id(value: object) -> str:
    """Return an assignment id of a plausible shape; raises ValueError."""
    if not isinstance(value, str) or not 0 < len(value) <= _ID_MAX:
        raise ValueError(f"not an assignment id: {value!r:.100}")
    return value


def _offered(assignment_id: Any, input_sha: Any, size_bytes: Any, data: Any) -> OfferedShard:
    if data is not None and not isinstance(data, bytes):
        raise TypeError("assign: data must be bytes or null")
    return OfferedShard(checked_id(assignment_id), _sha(input_sha), _count(size_bytes), data)


def _sha(value: object) -> str:
    if not isinstance(value, str) or not SHA256_HEX.match(value):
        raise ValueError(f"not a SHA-256: {value!r:.100}")
    return value


def _seconds(value: object) -> float:
    # Durations are CBOR floats; one that is not finite would poison every average it enters.
    if not isinstance(value, float) or not math.isfinite(value):
        raise ValueError(f"not a duration: {value!r:.100}")
    return max(0.0, value)


def _measured(value: object) -> int | None:
    """Read a measurement that the store has 64 bits for; older workers don't send it."""
    if value is None:
        return None
    if (count := _count(value)) >= 2**63:
        raise ValueError(f"not a measurement: {value!r:.100}")
    return count


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"not a size: {value!r:.100}")
    return value
