"""Validators for what clients send; each says in one clause what was expected."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, TypeVar

import voluptuous as vol

from swarm_hub.util.bounds import is_text
from swarm_hub.util.described import described

_DIGITS_MAX: Final = 20
# The year 9999, the last that ISO 8601 has four digits for.
_TIME_MAX_S: Final = 253_402_300_799.0
_Word = TypeVar("_Word", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Prefixed:
    """A key of a `query` that stands for every name with this beginning, such as `label.x`."""

    prefix: str

    def __call__(self, name: Any) -> str:
        """Validate a name."""
        if not isinstance(name, str) or not name.startswith(self.prefix) or name == self.prefix:
            raise vol.Invalid("extra keys not allowed")
        return name

    def __str__(self) -> str:
        return f"{self.prefix}*"

    def of(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a checked query by what follows the beginning."""
        return {
            name.removeprefix(self.prefix): value
            for name, value in query.items()
            if name.startswith(self.prefix)
        }


def whole_number(low: int, high: int) -> Callable[[Any], int]:
    """Return a validator for a whole number in a query, written in ASCII digits."""

    @described({"type": "integer", "minimum": low, "maximum": high})
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


@described({"type": "boolean"})
def flag(value: Any) -> bool:
    """Validate `true` or `false` in a query."""
    if value not in ("true", "false"):
        raise vol.Invalid("expected true or false")
    return bool(value == "true")


def text(max_length: int, *, what: str = "a text", min_length: int = 0) -> Callable[[Any], str]:
    """Return a validator for a text with a bounded number of characters."""

    @described({"type": "string", "minLength": min_length, "maxLength": max_length})
    def validate(value: Any) -> str:
        if not is_text(value, max_length, min_length):
            raise vol.Invalid(f"expected {what} of at most {max_length} characters")
        return str(value)

    return validate


def words(known: type[_Word]) -> Callable[[Any], frozenset[_Word]]:
    """Return a validator for one or more words of an enumeration, with commas between them."""

    names = [each.value for each in known]
    one = f"({'|'.join(names)})"

    @described({"type": "string", "pattern": f"^{one}(,{one})*$", "examples": names})
    def validate(value: Any) -> frozenset[_Word]:
        try:
            return frozenset(known(word) for word in str(value).split(","))
        except ValueError:
            raise vol.Invalid(
                f"expected one or more of {', '.join(known)}, with commas between them"
            ) from None

    return validate


@described(
    {
        "anyOf": [
            {"type": "number", "minimum": 0, "maximum": _TIME_MAX_S},
            {"type": "string", "format": "date-time"},
        ],
        "description": "Seconds since 1970, or ISO 8601.",
    }
)
def point_in_time(value: Any) -> float:
    """Validate a time: seconds since 1970, or ISO 8601, in UTC if it does not say; in seconds."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = _parsed(str(value))
    if not 0 <= seconds <= _TIME_MAX_S:
        raise vol.Invalid(
            "expected a time: seconds since 1970, or ISO 8601 such as 2026-01-31T12:00:00Z"
        )
    return seconds


def _parsed(text: str) -> float:
    try:
        # In a query a plus sign stands for a space.
        parsed = datetime.fromisoformat(text.replace(" ", "+"))
        aware = parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
        return aware.timestamp()
    except (ValueError, OverflowError):
        return math.nan
