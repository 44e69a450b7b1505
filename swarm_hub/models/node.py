"""Another hub as the gateway sees it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypeGuard

from swarm_hub.models.features import BASELINE, read_features
from swarm_hub.util.plain import shallow

# Labels of one node.
LABELS_MAX: Final = 32
_SLOTS_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What a node measured about itself; None means unknown, never zero.

    `cpu_percent` is 0–100 over all cores, memory in bytes, `temperature_c` in °C; `metered` says
    whether its network charges by volume.
    """

    cpu_percent: float | None = None
    available_memory_bytes: int | None = None
    load_1m: float | None = None
    has_battery: bool | None = None
    battery_percent: float | None = None
    charging: bool | None = None
    temperature_c: float | None = None
    metered: bool | None = None

    def to_wire(self) -> dict[str, Any]:
        """Return the plain values that `from_wire` takes."""
        return shallow(self)

    @classmethod
    def from_wire(cls, plain: object) -> Self:
        """Read telemetry from an untrusted peer; whatever is not a finite number is unknown."""
        if not isinstance(plain, dict):
            return cls()
        memory = _number(plain.get("available_memory_bytes"))
        return cls(
            cpu_percent=_number(plain.get("cpu_percent")),
            available_memory_bytes=None if memory is None else int(memory),
            load_1m=_number(plain.get("load_1m")),
            has_battery=_truth(plain.get("has_battery")),
            battery_percent=_number(plain.get("battery_percent")),
            charging=_truth(plain.get("charging")),
            temperature_c=_number(plain.get("temperature_c")),
            metered=_truth(plain.get("metered")),
        )


def _truth(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


@dataclass(frozen=True, slots=True)
class WorkerOffer:
    """What a worker says about itself on connecting; `memory_bytes` is what it gives a module."""

    slots: int = 1
    memory_bytes: int | None = None
    labels: frozenset[tuple[str, str]] = frozenset()
    features: frozenset[str] = BASELINE

    @classmethod
    def from_wire(cls, plain: Mapping[str, object]) -> Self:
        """Read an untrusted peer's offer; whatever is not part of the protocol is dropped."""
        slots, memory, labels = (plain.get(key) for key in ("slots", "memory_bytes", "labels"))
        pairs = list(labels.items())[:LABELS_MAX] if isinstance(labels, dict) else []
        return cls(
            min(max(slots, 1), _SLOTS_MAX) if _is_whole(slots) else 1,
            memory if _is_whole(memory) and memory > 0 else None,
            frozenset(
                (name, text)
                for name, text in pairs
                if isinstance(name, str) and isinstance(text, str)
            ),
            read_features(plain["features"]) if "features" in plain else BASELINE,
        )


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


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
