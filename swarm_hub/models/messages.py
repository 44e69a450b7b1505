"""The fields of the signed messages between gateway and worker (docs/protocol.md)."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypeGuard

from swarm_hub.models.call import ModuleCall
from swarm_hub.models.features import read_features
from swarm_hub.util.bounds import is_text, shown
from swarm_hub.util.shape import count, items, seconds, sha256, size, storable, text, told

ASSIGN: Final = "assign"
ACK: Final = "ack"
NACK: Final = "nack"
RESULT: Final = "result"
RESULT_ACK: Final = "result_ack"
CANCEL: Final = "cancel"
PREEMPT: Final = "preempt"
DRAIN: Final = "drain"
ROTATED: Final = "rotated"
REVOKED: Final = "revoked"
GATEWAYS: Final = "gateways"

# How the reason of a NACK begins that answers a `preempt`: nothing failed.
GAVE_WAY: Final = "gave way to other work"
# Why a worker takes nothing from a gateway that it does not obey.
UNTRUSTED: Final = "this gateway's key is not in the worker's signer: trust"
# How a gateway tells the failure of an attempt that took all of its wall time.
TIMED_OUT: Final = "wall_time:"

_ID_MAX: Final = 80
_CODE_MAX: Final = 64
_TEXT_MAX: Final = 8192
_REASON_MAX: Final = 500
DRAIN_REASON_MAX: Final = 200
_SHARDS_MAX: Final = 4096
# Of one swarm, as a worker is told of them.
GATEWAYS_MAX: Final = 16
# Of one gateway.
ADDRESSES_MAX: Final = 8
ADDRESS_MAX_CHARS: Final = 256
_KEY_BYTES: Final = 32
_IDS_MAX: Final = 65_536
_SHARD: Final = ("assignment_id", "input_sha", "size_bytes", "data")


@dataclass(frozen=True, slots=True)
class GatewayPlace:
    """A gateway in `gateways`: who it is, the key that it signs with, and where it is."""

    peer_id: str
    key: bytes
    addresses: tuple[str, ...]

    def to_wire(self) -> list[Any]:
        """Return the entry of the message."""
        return [self.peer_id, self.key, list(self.addresses)]


def read_gateways(fields: Mapping[str, Any]) -> list[GatewayPlace]:
    """Read `gateways`."""
    return [_place(each) for each in items(fields["gateways"], "gateways", GATEWAYS_MAX)]


def _place(entry: object) -> GatewayPlace:
    if not isinstance(entry, list) or len(entry) < 3:
        raise ValueError(f"a gateway is [peer id, key, addresses], got {shown(entry)}")
    peer_id, key, addresses = entry[:3]
    if (
        not is_text(peer_id, _ID_MAX, 1)
        or not (isinstance(key, bytes) and len(key) == _KEY_BYTES)
        or not (isinstance(addresses, list) and len(addresses) <= ADDRESSES_MAX)
        or not all(is_text(each, ADDRESS_MAX_CHARS, 1) for each in addresses)
    ):
        raise ValueError("a gateway's peer id, key or addresses can't be such")
    return GatewayPlace(peer_id, key, tuple(addresses))


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
    records = items(fields["shards"], "shards", _SHARDS_MAX)
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
    # Which module was called and how; None in what version 2 left undelivered.
    call_sha: str | None = None

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
            "call_sha": self.call_sha,
        }

    @classmethod
    def from_wire(cls, fields: Mapping[str, Any]) -> Self:
        """Read the message; raises KeyError, TypeError or ValueError on a wrong shape."""
        body = fields["body"]
        if body is not None and not isinstance(body, bytes):
            raise TypeError("'body' is neither bytes nor null")
        return cls(
            checked_id(fields["id"]),
            text(fields["code"], "code", _CODE_MAX),
            storable(fields["text"], "text", _TEXT_MAX),
            sha256(fields["input_sha"], "input_sha"),
            sha256(fields["sha"], "sha"),
            size(fields["size"], "size"),
            body,
            seconds(fields["wall_s"], "wall_s"),
            seconds(fields["cpu_s"], "cpu_s"),
            _measured(fields.get("peak"), "peak"),
            _measured(fields.get("fuel"), "fuel"),
            None if fields.get("call_sha") is None else sha256(fields["call_sha"], "call_sha"),
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
            storable(fields["reason"], "reason", _REASON_MAX),
            read_features(fields.get("lacks")),
        )


def ids(fields: Mapping[str, Any]) -> list[str]:
    """Read the assignment ids of a message that has a list of them; raises KeyError, ValueError.

    What can't be an id is dropped, as no assignment known here has it.
    """
    return [each for each in items(fields["ids"], "ids", _IDS_MAX) if _is_id(each)]


def read_drain(fields: Mapping[str, Any]) -> tuple[object, str | None]:
    """Read which node a drain names, if any, and its reason; raises KeyError or ValueError."""
    reason = fields["reason"]
    if reason is not None:
        reason = storable(reason, "reason", DRAIN_REASON_MAX)
    return fields.get("node"), reason


def read_finishing(fields: Mapping[str, Any]) -> bool:
    """Read whether a worker that takes no new work still takes that of jobs its reader has."""
    return fields.get("node") is None and fields.get("finishing") is True


def checked_id(value: object) -> str:
    """Return an assignment id of a plausible shape; raises ValueError."""
    if not _is_id(value):
        raise ValueError(f"not an assignment id: {shown(value)}")
    return value


def _is_id(value: object) -> TypeGuard[str]:
    return is_text(value, _ID_MAX, 1)


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


def _measured(value: object, name: str) -> int | None:
    """Read a measurement; older workers don't send it."""
    return None if value is None else count(value, name)
