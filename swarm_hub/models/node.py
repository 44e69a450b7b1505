"""Another hub as the gateway sees it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Self, TypeGuard

from swarm_hub.models.features import BASELINE, read_features
from swarm_hub.util.bounds import SIZE_MAX_BYTES, is_int, is_number, is_text
from swarm_hub.util.hashing import SHA256_HEX
from swarm_hub.util.plain import shallow

# Labels of one node.
LABELS_MAX: Final = 32
LABEL_MAX_CHARS: Final = 128
_SLOTS_MAX: Final = 1024
_SLOWER_MAX_CHARS: Final = 200
# Of the runtimes that a node was offered, and of what it says of each.
RUNTIMES_MAX: Final = 8
_RUNTIME_MAX_CHARS: Final = 200
# What a node says of a runtime of which it takes shards; anything else is why it takes none.
READY: Final = "ready"
# So far only of jobs whose results are not compared.
PARTLY_READY: Final = "ready, but not for deterministic jobs yet"
_VERSION_MAX_CHARS: Final = 40
_ROLES_MAX: Final = 8
_LOAD_MAX: Final = 1e9
_TEMPERATURES_C: Final = (-273.15, 1000.0)
_WALL_TIMES_S: Final = (0.001, 1e8)
_WORD: Final = re.compile(r"[a-z][a-z0-9_]{0,15}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What a node measured about itself; None means unknown, never zero.

    `cpu_percent` is 0–100 over all cores, memory in bytes, `temperature_c` in °C; `metered` says
    whether its network charges by volume, `power_source` by what it is charged, `slots` how many
    shards its worker runs at once for now, `slower` why not more, `runtimes` what it says of each
    runtime that its gateways offer, by hash: READY, or why it takes no shards of it.
    """

    cpu_percent: float | None = None
    available_memory_bytes: int | None = None
    load_1m: float | None = None
    has_battery: bool | None = None
    battery_percent: float | None = None
    charging: bool | None = None
    temperature_c: float | None = None
    metered: bool | None = None
    power_source: str | None = None
    network: str | None = None
    slots: int | None = None
    slower: str | None = None
    runtimes: Mapping[str, str] | None = None

    def to_wire(self) -> dict[str, Any]:
        """Return the plain values that `from_wire` takes."""
        return shallow(self)

    @classmethod
    def from_wire(cls, plain: object) -> Self:
        """Read telemetry from an untrusted peer; what can't be such a value is unknown."""
        if not isinstance(plain, dict):
            return cls()
        memory = _number(plain.get("available_memory_bytes"), 0, SIZE_MAX_BYTES)
        return cls(
            cpu_percent=_number(plain.get("cpu_percent"), 0, 100),
            available_memory_bytes=None if memory is None else int(memory),
            load_1m=_number(plain.get("load_1m"), 0, _LOAD_MAX),
            has_battery=_truth(plain.get("has_battery")),
            battery_percent=_number(plain.get("battery_percent"), 0, 100),
            charging=_truth(plain.get("charging")),
            temperature_c=_number(plain.get("temperature_c"), *_TEMPERATURES_C),
            metered=_truth(plain.get("metered")),
            power_source=_word(plain.get("power_source")),
            network=_word(plain.get("network")),
            slots=slots if is_int(slots := plain.get("slots"), 1, _SLOTS_MAX) else None,
            slower=slower if is_text(slower := plain.get("slower"), _SLOWER_MAX_CHARS) else None,
            runtimes=_runtimes(plain.get("runtimes")),
        )


def _runtimes(plain: object) -> Mapping[str, str] | None:
    if not isinstance(plain, dict):
        return None
    return {
        sha: said
        for sha, said in list(plain.items())[:RUNTIMES_MAX]
        if isinstance(sha, str) and SHA256_HEX.match(sha) and is_text(said, _RUNTIME_MAX_CHARS)
    }


def _truth(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _word(value: object) -> str | None:
    # One that a newer version knows is shown as it is.
    return value if isinstance(value, str) and _WORD.match(value) else None


def _number(value: object, low: float, high: float) -> float | None:
    return float(value) if is_number(value, low, high) else None  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class WorkerOffer:
    """What a worker says about itself on connecting.

    `memory_bytes` and `wall_time_s` are the most it gives a shard; None means unknown.
    """

    slots: int = 1
    memory_bytes: int | None = None
    labels: frozenset[tuple[str, str]] = frozenset()
    features: frozenset[str] = BASELINE
    wall_time_s: float | None = None
    version: str | None = None
    # What the hub is to others, such as a gateway, too.
    roles: frozenset[str] = frozenset({"worker"})

    @classmethod
    def from_wire(cls, plain: Mapping[str, object], roles: Iterable[object] = ("worker",)) -> Self:
        """Read an untrusted peer's offer; whatever is not part of the protocol is dropped."""
        slots, memory, labels = (plain.get(key) for key in ("slots", "memory_bytes", "labels"))
        version: Any = plain.get("version")
        pairs = list(labels.items())[:LABELS_MAX] if isinstance(labels, dict) else []
        return cls(
            min(max(slots, 1), _SLOTS_MAX) if _is_whole(slots) else 1,
            memory if is_int(memory, 1, SIZE_MAX_BYTES) else None,  # type: ignore[arg-type]
            frozenset(
                (name, text)
                for name, text in pairs
                if is_text(name, LABEL_MAX_CHARS) and is_text(text, LABEL_MAX_CHARS)
            ),
            read_features(plain["features"]) if "features" in plain else BASELINE,
            _number(plain.get("wall_time_s"), *_WALL_TIMES_S),
            version if is_text(version, _VERSION_MAX_CHARS) else None,
            frozenset(word for role in islice(roles, _ROLES_MAX) if (word := _word(role))),
        )


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Until when a node gets no work of a program and why; `count` is how often it was so."""

    program: str
    until: float
    count: int
    reason: str


@dataclass(frozen=True, slots=True)
class ProgramSpeed:
    """How fast a node runs a program: items a second on one slot, and the seconds of a shard."""

    program: str
    rate: float
    shard_s: float


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What the store keeps about a node; times are seconds since the epoch."""

    peer_id: str
    name: str
    kid: str | None
    public_key: bytes | None
    first_seen: float
    last_seen: float
    banned_at: float | None = None
    ban_reason: str | None = None
    ban_until: float | None = None
    admission: str | None = None
    drain_reason: str | None = None
    agreements: int = 0
    contradictions: int = 0
    owner: str | None = None
    # How fast it has run each program, as JSON.
    speeds: str | None = None
    # The labels that an administrator gave it, as JSON.
    labels: str | None = None
    # When its owner, or how far it is trusted, was last written, by the store's clock.
    standing_at: float | None = None
