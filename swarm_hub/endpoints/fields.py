"""Validators for what clients send; each says in one clause what was expected."""

from collections.abc import Callable
from typing import Any

import voluptuous as vol


def whole_number(low: int, high: int) -> Callable[[Any], int]:
    """Return a validator for a whole number in a query, written in ASCII digits."""

    def validate(value: Any) -> int:
        if (
            not isinstance(value, str)
            or not (value.isascii() and value.isdigit())
            or not low <= int(value[:20]) <= high
        ):
            raise vol.Invalid(f"expected a whole number from {low} to {high}")
        return int(value[:20])

    return validate


def text(max_length: int, *, what: str = "a text", min_length: int = 0) -> Callable[[Any], str]:
    """Return a validator for a text with a bounded number of characters."""

    def validate(value: Any) -> str:
        if not isinstance(value, str) or not min_length <= len(value) <= max_length:
            raise vol.Invalid(f"expected {what} of at most {max_length} characters")
        return value

    return validate
