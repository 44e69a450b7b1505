"""Dataclasses as plain mappings."""

from dataclasses import fields
from typing import Any


def shallow(value: Any) -> dict[str, Any]:
    """Return a dataclass's fields by name, without the deep copies of `dataclasses.asdict`."""
    return {field.name: getattr(value, field.name) for field in fields(value)}
