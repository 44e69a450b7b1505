"""Validators for what clients send; each says in one clause what was expected."""

from collections.abc import Callable
from typing import Any, Final

import voluptuous as vol

from swarm_hub.util.bounds import is_text

_DIGITS_MAX: Final = 20


def whole_number(low: int, high: int) -> Callable[[Any], int]:
    """Return a validator for a whole number in a query, written in ASCII digits."""

    def validate(value: Any) -> int:
        if (
            not isinstance(value, str)
            or not (value.isascii() and value.isdigit())
            or len(value) > _DIGITS_MAX
            or not low <= int(value) <= high
        ):
            raise vol.Invalid(f"expected a whole number from {low} to {high}")
        return int(value)

    return validate


def flag(value: Any) -> bool:
    """Validate `true` or `false` in a query."""
    if value not in ("true", "false"):
        raise vol.Invalid("expected true or false")
    return bool(value == "true")


def text(max_length: int, *, what: str = "a text", min_length: int = 0) -> Callable[[Any], str]:
    """Return a validator for a text with a bounded number of characters."""

    def validate(value: Any) -> str:
        if not is_text(value, max_length, min_length):
            raise vol.Invalid(f"expected {what} of at most {max_length} characters")
        return str(value)

    return validate
