"""Dataclasses as plain mappings."""

from dataclasses import fields
from functools import cache
from typing import Any


def shallow(value: Any) -> dict[str, Any]:
    """Return a dataclass's fields by name, without the deep copies of `dataclasses.asdict`."""
    return {name: getattr(value, name) for name in _names(value.__class__)}


@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))
