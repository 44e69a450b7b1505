"""What a validator takes, in words for a table and as JSON Schema for editors.

The description of the API has a converter of its own, of a library that only gateways have; this
one takes what it does not know for a value of any kind, so that no editor finds fault with what
`check` accepts.
"""

from collections.abc import Mapping
from typing import Any, Final

import voluptuous as vol

from swarm_hub.helpers import config_validation as cv

Schema = dict[str, Any]

_WORDS: Final = {
    cv.size: "size",
    cv.duration: "duration",
    cv.positive_duration: "duration above 0",
    str: "text",
    bool: "`true` or `false`",
}
_TYPES: Final = {str: "string", int: "integer", float: "number", bool: "boolean"}


def words(validator: Any) -> str:
    """Return what a validator takes, for a person; nothing if that is not known."""
    if validator is None or isinstance(validator, str | bool):
        return f"`{'null' if validator is None else str(validator).lower()}`"
    if isinstance(validator, vol.Any):
        return _either([words(each) for each in validator.validators])
    if isinstance(validator, vol.All):
        return words(validator.validators[0])
    if isinstance(validator, list):
        return f"list of {words(validator[0])}"
    if (known := _WORDS.get(validator) if callable(validator) else None) is not None:
        return known
    if isinstance(own := getattr(validator, "json_schema", None), Mapping):
        return _of_json(own)
    if (each := getattr(validator, "items", None)) is not None:
        return f"list of {words(each)}"
    if isinstance(inner := getattr(validator, "schema", None), vol.Schema):
        return "keys"
    return "" if inner is None else words(inner)


def json_schema(validator: Any) -> Schema:
    """Return what a validator takes as JSON Schema; `{}`, anything, if that is not known."""
    if validator is False:
        # To Python 0 is the same, so it is to `check`.
        return {"enum": [False, 0]}
    if validator is None or isinstance(validator, str | bool | int | float):
        return {"const": validator}
    if isinstance(validator, type):
        return {"type": _TYPES[validator]} if validator in _TYPES else {}
    if isinstance(validator, vol.Any):
        found = [json_schema(each) for each in validator.validators]
        return {} if {} in found else {"anyOf": found}
    if isinstance(validator, vol.All):
        return json_schema(validator.validators[0])
    if isinstance(validator, list):
        return {"type": "array", "items": json_schema(validator[0])}
    if isinstance(own := getattr(validator, "json_schema", None), Mapping):
        return dict(own)
    if (each := getattr(validator, "items", None)) is not None:
        return {"type": "array", "items": json_schema(each)}
    inner = getattr(validator, "schema", None)
    return {} if inner is None or isinstance(inner, vol.Schema) else json_schema(inner)


def _of_json(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return _either([f"`{each}`" for each in schema["enum"]])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        return _either([_of_json(each) for each in schema["anyOf"]])
    match schema.get("type"):
        case "boolean":
            return "`true` or `false`"
        case "integer" | "number" if "minimum" in schema:
            return f"{schema['minimum']:,} to {schema['maximum']:,}".replace(",", " ")
        case "string":
            return "text"
        case "object":
            return "keys"
    return ""


def _either(found: list[str]) -> str:
    *first, last = dict.fromkeys(each for each in found if each)
    return f"{', '.join(first)} or {last}" if first else last
