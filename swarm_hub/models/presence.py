"""What a living gateway tells the others of its store: where it is, and what its nodes can do."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from swarm_hub.models.features import read_features
from swarm_hub.models.node import LABEL_MAX_CHARS, LABELS_MAX, RUNTIMES_MAX
from swarm_hub.util.bounds import SIZE_MAX_BYTES, is_int, is_number, is_text
from swarm_hub.util.hashing import SHA256_HEX

# What is read of another gateway's row; what is written stays below it.
PRESENCE_MAX_BYTES: Final = 32 * 1024
# Of the API, and of the mesh.
ADDRESSES_MAX: Final = 8
ADDRESS_MAX_CHARS: Final = 256
# Groups of nodes that can do the same; those with the most idle slots are told.
KINDS_MAX: Final = 8
_NAME_MAX_CHARS: Final = 64
_VERSION_MAX_CHARS: Final = 40
_NODES_MAX: Final = 10_000_000
_WALL_TIMES_S: Final = (0.001, 1e8)


@dataclass(frozen=True, slots=True)
class NodeKind:
    """Nodes of a gateway that can do the same: their slots, and how many of these are idle.

    `runtimes` are the hashes of those that they have prepared.
    """

    slots: int
    idle: int
    features: frozenset[str]
    runtimes: frozenset[str] = frozenset()
    labels: frozenset[tuple[str, str]] = frozenset()
    memory_bytes: int | None = None
    wall_time_s: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the plain values that `from_json` takes."""
        return {
            "slots": self.slots,
            "idle": self.idle,
            "features": sorted(self.features),
            "runtimes": sorted(self.runtimes),
            "labels": dict(sorted(self.labels)),
            "memory_bytes": self.memory_bytes,
            "wall_time_s": self.wall_time_s,
        }

    @classmethod
    def from_json(cls, plain: object) -> Self | None:
        """Read what another gateway wrote; None for what can't be that."""
        if not isinstance(plain, dict):
            return None
        labels, memory, wall_s = (
            plain.get(key) for key in ("labels", "memory_bytes", "wall_time_s")
        )
        return cls(
            _count(plain.get("slots")),
            _count(plain.get("idle")),
            read_features(plain.get("features")),
            frozenset(_texts(plain.get("runtimes"), RUNTIMES_MAX, SHA256_HEX.match)),
            frozenset(
                (name, text)
                for name, text in list(labels.items() if isinstance(labels, dict) else ())[
                    :LABELS_MAX
                ]
                if is_text(name, LABEL_MAX_CHARS) and is_text(text, LABEL_MAX_CHARS)
            ),
            memory if is_int(memory, 1, SIZE_MAX_BYTES) else None,
            float(wall_s) if is_number(wall_s, *_WALL_TIMES_S) else None,  # type: ignore[arg-type]
        )


@dataclass(frozen=True, slots=True)
class Presence:
    """A living gateway; of one that tells nothing of itself only the peer id is known.

    `urls` are where clients find its API, `addresses` where workers dial it, `key` its signing key
    in hex. `idle` of the `slots` of its connected `nodes` are free and take work.
    """

    peer_id: str
    name: str = ""
    version: str = ""
    key: str = ""
    urls: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    nodes: int = 0
    slots: int = 0
    idle: int = 0
    kinds: tuple[NodeKind, ...] = ()

    def to_json(self) -> str:
        """Return the text for the store; kinds that have no room in it are left out."""
        plain: dict[str, Any] = {
            "name": self.name[:_NAME_MAX_CHARS],
            "version": self.version,
            "key": self.key,
            "urls": list(self.urls[:ADDRESSES_MAX]),
            "addresses": list(self.addresses[:ADDRESSES_MAX]),
            "nodes": self.nodes,
            "slots": self.slots,
            "idle": self.idle,
        }
        kinds = sorted(self.kinds, key=lambda kind: -kind.idle)[:KINDS_MAX]
        while True:
            text = json.dumps({**plain, "kinds": [kind.to_json() for kind in kinds]})
            if not kinds or len(text) <= PRESENCE_MAX_BYTES:
                return text
            kinds.pop()

    @classmethod
    def from_json(cls, peer_id: str, text: str | None) -> Self:
        """Read what another gateway wrote, perhaps of another version; drops what it can't be."""
        plain: object = None
        if text is not None and len(text) <= PRESENCE_MAX_BYTES:
            try:
                plain = json.loads(text)
            except (ValueError, RecursionError):
                plain = None
        if not isinstance(plain, dict):
            return cls(peer_id)
        kinds = plain.get("kinds")
        return cls(
            peer_id,
            _text(plain, "name", _NAME_MAX_CHARS),
            _text(plain, "version", _VERSION_MAX_CHARS),
            key if SHA256_HEX.match(key := _text(plain, "key", 64)) else "",
            tuple(_texts(plain.get("urls"), ADDRESSES_MAX, _is_url)),
            tuple(_texts(plain.get("addresses"), ADDRESSES_MAX, lambda text: text[0] == "/")),
            _count(plain.get("nodes")),
            _count(plain.get("slots")),
            _count(plain.get("idle")),
            tuple(
                kind
                for each in (kinds[:KINDS_MAX] if isinstance(kinds, list) else ())
                if (kind := NodeKind.from_json(each)) is not None
            ),
        )


def _text(plain: Mapping[str, object], key: str, most_chars: int) -> str:
    value: Any = plain.get(key)
    return value if is_text(value, most_chars) and value.isprintable() else ""


def _texts(value: object, most: int, fits: Callable[[str], object]) -> list[str]:
    return [
        text
        for text in (value[:most] if isinstance(value, list) else ())
        if is_text(text, ADDRESS_MAX_CHARS, 1) and text.isprintable() and fits(text)
    ]


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _count(value: Any) -> int:
    return value if is_int(value, 0, _NODES_MAX) else 0
