"""Schemas of the typed shapes that views declare, to hold their answers against."""

import types
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints

import voluptuous as vol


def schema_of(shape: Any) -> Any:
    """Return the voluptuous schema of a TypedDict, or of a type that stands in one.

    Takes TypedDicts, `list[T]`, `dict[str, T]`, `T | None`, `Literal[…]`, `NotRequired[T]`, `Any`
    and plain types; raises TypeError for others.
    """
    origin, arguments = get_origin(shape), get_args(shape)
    if shape is Any:
        return object
    if shape is None or shape is type(None):
        return None
    if origin is Literal:
        return vol.In(arguments)
    if origin in (Union, types.UnionType):
        return vol.Any(*map(schema_of, arguments))
    if origin is NotRequired:
        return schema_of(arguments[0])
    if origin is list:
        return [schema_of(arguments[0])]
    if origin is dict:
        return {vol.Extra: schema_of(arguments[1])}
    if isinstance(shape, type) and hasattr(shape, "__required_keys__"):
        hints = get_type_hints(shape)
        required = shape.__required_keys__
        return {
            (vol.Required if name in required else vol.Optional)(name): schema_of(kind)
            for name, kind in hints.items()
        }
    if shape is float:
        # A JSON writer makes no difference between 1 and 1.0.
        return vol.Any(float, int)
    if shape in (str, int, bool, bytes):
        return shape
    raise TypeError(f"{shape!r} has no schema")
