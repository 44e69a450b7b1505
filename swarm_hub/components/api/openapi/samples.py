"""Examples made from a JSON Schema, where a view gives none of its own."""

from collections.abc import Mapping
from typing import Any, Final

# By how a field's name ends; the last that fits counts.
_BY_NAME: Final[tuple[tuple[str, Any], ...]] = (
    ("", "…"),
    ("_at", "2026-01-31T12:00:00.000Z"),
    ("until", "2026-01-31T12:00:00.000Z"),
    ("time_fired", "2026-01-31T12:00:00.000Z"),
    ("_seen", "2026-01-31T12:00:00.000Z"),
    ("job_id", "01JA2B3C4D5E6F7G8H9JKMNPQR"),
    ("node_id", "12D3KooWExample"),
    ("sha", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
    ("cursor", "01JA2B3C4D5E6F7G8H9JKMNPQR"),
    ("network", "10.1.0.0/16"),
    ("name", "kitchen-tablet"),
    ("message", "the node was lost"),
)
_DEPTH_MAX: Final = 8


def sample(schema: Any, named: Mapping[str, Any], name: str = "", depth: int = 0) -> Any:
    """Return a value that a schema allows."""
    if not isinstance(schema, dict) or depth > _DEPTH_MAX:
        return None
    if "$ref" in schema:
        return sample(named[schema["$ref"].rpartition("/")[2]], named, name, depth + 1)
    for key in ("example", "default", "const"):
        if key in schema:
            return schema[key]
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    if "anyOf" in schema:
        return sample(schema["anyOf"][0], named, name, depth + 1)
    kind = schema.get("type")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            return {
                key: sample(value, named, key, depth + 1)
                for key, value in schema.get("properties", {}).items()
            }
        case "array":
            one = sample(schema["items"], named, name.removesuffix("s"), depth + 1)
            return [] if one is None else [one]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "string":
            return next(value for ending, value in reversed(_BY_NAME) if name.endswith(ending))
        case _:
            return None
