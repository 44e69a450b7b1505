"""JSON Schemas of what views take (voluptuous) and of what they answer (TypedDicts)."""

import inspect
import types
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, Literal, NotRequired, Union, get_args, get_origin, get_type_hints

import voluptuous as vol
from voluptuous_openapi import UNSUPPORTED, OpenApiVersion, convert

Schema = dict[str, Any]

_PLAIN: Final[dict[Any, Schema]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    bytes: {"type": "string", "format": "binary"},
    type(None): {"type": "null"},
}
# The library would take a schema without a type for that of a text.
_ANYTHING: Final[Schema] = {
    "type": ["null", "boolean", "number", "string", "array", "object"],
}


class Schemas:
    """The schemas that have names; each is described once and referred to everywhere else."""

    def __init__(self) -> None:
        self.named: dict[str, Schema] = {}
        self._names: dict[Any, str] = {}

    def of_validator(self, validator: Any) -> Schema:
        """Return the schema of what a voluptuous schema or a validator takes."""
        found: Schema = convert(
            validator, custom_serializer=_of_ours, openapi_version=OpenApiVersion.V3_1
        )
        if _is_closed(validator) and found.get("type") == "object":
            found.setdefault("additionalProperties", False)
        shared: Schema = self._share_titled(found)
        return shared

    def of_shape(self, shape: Any) -> Schema:
        """Return the schema of a TypedDict, or of a type that stands in one."""
        origin, arguments = get_origin(shape), get_args(shape)
        if shape is Any:
            return {}
        if shape in _PLAIN or shape is None:
            return dict(_PLAIN[shape or type(None)])
        if origin is Literal:
            return {"type": "string", "enum": list(arguments)}
        if origin in (Union, types.UnionType):
            return {"anyOf": [self.of_shape(each) for each in arguments]}
        if origin is NotRequired:
            return self.of_shape(arguments[0])
        if origin is list:
            return {"type": "array", "items": self.of_shape(arguments[0])}
        if origin is dict:
            values = self.of_shape(arguments[1])
            return {"type": "object", "additionalProperties": values or True}
        if isinstance(shape, type) and issubclass(shape, StrEnum):
            return {"type": "string", "enum": [each.value for each in shape]}
        if isinstance(shape, type) and hasattr(shape, "__required_keys__"):
            return self._typed_dict(shape)
        raise TypeError(f"{shape!r} has no JSON Schema")

    def _typed_dict(self, shape: Any) -> Schema:
        name = self._names.get(shape)
        if name is None:
            name = self._free_name(shape.__name__.lstrip("_").removesuffix("Shape"))
            # Entered first, for shapes that hold themselves.
            self._names[shape], self.named[name] = name, {}
            properties = {key: self.of_shape(kind) for key, kind in get_type_hints(shape).items()}
            self.named[name] |= {
                "type": "object",
                **_description(shape),
                "properties": properties,
                "required": sorted(shape.__required_keys__, key=list(properties).index),
            }
        return {"$ref": f"#/components/schemas/{name}"}

    def _free_name(self, name: str) -> str:
        """Return the name, or another one if two components have shapes of one name."""
        free, number = name, 1
        while free in self.named:
            number += 1
            free = f"{name}{number}"
        return free

    def _share_titled(self, schema: Any) -> Any:
        if isinstance(schema, list):
            return [self._share_titled(each) for each in schema]
        if not isinstance(schema, dict):
            return schema
        inner = {name: self._share_titled(each) for name, each in schema.items()}
        title = inner.get("title")
        if not isinstance(title, str):
            return inner
        default = {"default": inner.pop("default")} if "default" in inner else {}
        del inner["title"]
        self.named[title] = inner
        return {"$ref": f"#/components/schemas/{title}", **default}


def _of_ours(validator: Any) -> Any:
    """Return the schema of a validator of ours; the library knows voluptuous' own."""
    if isinstance(own := getattr(validator, "json_schema", None), Mapping):
        return dict(own)
    if inspect.isroutine(validator):
        stands_for = getattr(validator, "schema", None)
        if stands_for is None:
            return dict(_ANYTHING)
        found = convert(stands_for, custom_serializer=_of_ours, openapi_version=OpenApiVersion.V3_1)
        if isinstance(stands_for, vol.Schema):
            # An empty section takes every default.
            found["type"] = ["object", "null"]
            if _is_closed(stands_for):
                found.setdefault("additionalProperties", False)
        if title := getattr(validator, "title", None):
            found["title"] = title
        return found
    return UNSUPPORTED


def _is_closed(validator: Any) -> bool:
    return isinstance(validator, vol.Schema) and validator.extra == vol.PREVENT_EXTRA


def _description(shape: Any) -> Schema:
    text = inspect.getdoc(shape)
    return {} if text is None or text.startswith("dict(") else {"description": prose(text)}


def prose(text: str) -> str:
    """Return a docstring without the line breaks within its paragraphs."""
    return "\n\n".join(" ".join(each.split()) for each in text.split("\n\n"))
