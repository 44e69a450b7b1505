"""Validators for component schemas, which turn a checked mapping into a frozen dataclass."""

import ipaddress
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import voluptuous as vol

from swarm_hub.models.job import ADAPTIVE, REDUNDANCY_MAX
from swarm_hub.models.node import LABEL_MAX_CHARS, LABELS_MAX
from swarm_hub.util.bounds import LIST_MAX, TEXT_MAX_CHARS, is_int, is_number, is_text, shown
from swarm_hub.util.described import described
from swarm_hub.util.units import parse_duration, parse_size

_T = TypeVar("_T")

_WORD_MAX_CHARS: Final = 200
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?\Z", re.ASCII)


class Key(vol.Optional):
    """A key of a section, or of a platform.

    `reloadable` says whether a running hub can take a new value for it; `field` is its name in the
    dataclass (or `create`) if that differs, with its unit.
    """

    def __init__(
        self, name: str, default: Any = vol.UNDEFINED, *, reloadable: bool, field: str | None = None
    ) -> None:
        super().__init__(name, default=default)
        self.reloadable = reloadable
        self.field = field or name


def section(keys: dict[Any, Any], into: Callable[..., _T]) -> Callable[[Any], _T]:
    """Return a validator for a YAML section: it checks the keys, then builds the dataclass `into`.

    An empty section (`worker:` with nothing below) takes every default.
    """
    schema = vol.Schema(keys)
    fields = {str(key): key.field for key in keys if isinstance(key, Key)}
    known = tuple(str(getattr(key, "schema", key)) for key in keys)

    def validate(value: Any) -> _T:
        try:
            checked = schema({} if value is None else value)
            return into(**{fields.get(name, name): given for name, given in checked.items()})
        except vol.MultipleInvalid as error:
            raise vol.MultipleInvalid([explained(each, known) for each in error.errors]) from None

    validate.schema = schema  # type: ignore[attr-defined]
    return validate


@described({"type": ["integer", "string"], "examples": ["128MiB"]})
def size(value: Any) -> int:
    """Validate a size in bytes: an integer or text such as `128MiB`."""
    return _converted(parse_size, value)


@described({"type": ["number", "string"], "examples": ["24h"]})
def duration(value: Any) -> float:
    """Validate a duration in seconds: a number or text such as `24h`."""
    return _converted(parse_duration, value)


@described({"type": ["number", "string"], "examples": [60]})
def positive_duration(value: Any) -> float:
    """Validate a duration that is not zero."""
    seconds = duration(value)
    if seconds <= 0:
        raise vol.Invalid("expected a duration above 0")
    return seconds


@described({"type": "boolean"})
def boolean(value: Any) -> bool:
    """Validate true or false; text such as "yes" is refused so that a typo is never a yes."""
    if not isinstance(value, bool):
        raise vol.Invalid(f"expected true or false, got {shown(value)}")
    return value


def integer(low: int, high: int) -> Callable[[Any], int]:
    """Return a validator for a whole number between `low` and `high`, both included."""

    @described({"type": "integer", "minimum": low, "maximum": high})
    def validate(value: Any) -> int:
        if not is_int(value, low, high):
            raise vol.Invalid(f"expected a whole number from {low} to {high}, got {shown(value)}")
        return int(value)

    return validate


def number(low: float, high: float) -> Callable[[Any], float]:
    """Return a validator for a finite number between `low` and `high`, both included."""

    @described({"type": "number", "minimum": low, "maximum": high})
    def validate(value: Any) -> float:
        if not is_number(value, low, high):
            raise vol.Invalid(f"expected a number from {low:g} to {high:g}, got {shown(value)}")
        return float(value)

    return validate


def one_of(*choices: str) -> Callable[[Any], str]:
    """Return a validator for one of a few words, with a suggestion for a near miss."""

    @described({"type": "string", "enum": list(choices)})
    def validate(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise vol.Invalid(
                f"expected one of {', '.join(choices)}, got {shown(value)}"
                + did_you_mean(value, choices)
            )
        return value

    return validate


@described({"type": "string"})
def host(value: Any) -> str:
    """Validate an IP address or host name to listen on."""
    if isinstance(value, str):
        try:
            return str(ipaddress.ip_address(value))
        except ValueError:
            if _HOST.match(value):
                return value
    raise vol.Invalid(f"expected an IP address or host name, got {shown(value)}")


@described({"type": "string", "pattern": "^[0-9a-fA-F]{64}$"})
def public_key(value: Any) -> bytes:
    """Validate an Ed25519 public key in hex (64 digits)."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", value, re.ASCII):
        raise vol.Invalid(
            f"expected a signer's public key (64 hex digits, see `swarm-hub key show`), "
            f"got {shown(value)}"
        )
    return bytes.fromhex(value)


def sequence(validator: Callable[[Any], _T]) -> Callable[[Any], tuple[_T, ...]]:
    """Return a validator for a list, which becomes a tuple."""
    schema = vol.Schema([validator])

    def validate(value: Any) -> tuple[_T, ...]:
        if not isinstance(value, list):
            raise vol.Invalid(f"expected a list, got {shown(value)}")
        if len(value) > LIST_MAX:
            raise vol.Invalid(f"expected at most {LIST_MAX} entries, got {len(value)}")
        return tuple(schema(value))

    # For the description of the configuration alone.
    validate.items = validator  # type: ignore[attr-defined]
    return validate


@described(
    {"anyOf": [{"type": "integer", "minimum": 1, "maximum": REDUNDANCY_MAX}, {"const": ADAPTIVE}]}
)
def redundancy(value: Any) -> int | str:
    """Accept how many nodes do a shard, or `adaptive`."""
    if value == ADAPTIVE:
        return ADAPTIVE
    if not is_int(value, 1, REDUNDANCY_MAX):
        raise vol.Invalid(
            f"expected a whole number from 1 to {REDUNDANCY_MAX} or {ADAPTIVE}, got {shown(value)}"
        )
    return int(value)


@described(
    {
        "type": "object",
        "maxProperties": LABELS_MAX,
        "additionalProperties": {"type": "string", "maxLength": LABEL_MAX_CHARS},
    }
)
def labels(value: Any) -> dict[str, str]:
    """Accept at most 32 names, each with a text."""
    if not isinstance(value, dict) or len(value) > LABELS_MAX:
        raise vol.Invalid(f"expected at most {LABELS_MAX} names, each with a text")
    for name, text in value.items():
        if not (is_text(name) and is_text(text) and len(name) + len(text) <= LABEL_MAX_CHARS):
            raise vol.Invalid(
                f"expected texts of at most {LABEL_MAX_CHARS} characters, got {shown(name)}: "
                f"{shown(text)}",
                path=[name if is_text(name, LABEL_MAX_CHARS) else shown(name)],
            )
    return dict(value)


def text(most_chars: int = TEXT_MAX_CHARS, least_chars: int = 0) -> Callable[[Any], str]:
    """Return a validator for a text without NUL and of so many characters."""

    @described({"type": "string", "minLength": least_chars, "maxLength": most_chars})
    def validate(value: Any) -> str:
        if not isinstance(value, str):
            raise vol.Invalid("expected text")
        if not is_text(value, most_chars, least_chars):
            raise vol.Invalid(
                f"expected text of {least_chars} to {most_chars} characters without NUL, "
                f"got {shown(value)}"
            )
        return value

    return validate


def optional(validator: Callable[[Any], _T]) -> Callable[[Any], _T | None]:
    """Return a validator that takes null too; unlike vol.Any it says what is bad in a bad value."""

    def validate(value: Any) -> _T | None:
        return None if value is None else validator(value)

    # For the description of the API alone.
    validate.schema = vol.Any(validator, None)  # type: ignore[attr-defined]
    return validate


def did_you_mean(word: Any, known: "tuple[str, ...] | list[str] | set[str]") -> str:
    """Return `; did you mean X?` for the nearest known word, or nothing if none is near."""
    if not isinstance(word, str) or len(word) > _WORD_MAX_CHARS:
        return ""
    # difflib costs 5 ms to import and is needed only for a typo.
    from difflib import get_close_matches

    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def is_unknown_key(error: vol.Invalid) -> bool:
    """Whether a problem is a key at the top that a schema doesn't have."""
    return error.msg == "extra keys not allowed" and len(error.path) == 1


def explained(error: vol.Invalid, known: tuple[str, ...]) -> vol.Invalid:
    """Return the error, with a hint if it is about an unknown key of a section."""
    if not is_unknown_key(error):
        return error
    key = error.path[0]
    listed = f"; known keys: {', '.join(known)}" if known else "; there are no keys here"
    hint = did_you_mean(key, known) or listed
    return vol.Invalid(f"unknown key{hint}", path=error.path)


def _converted(convert: Callable[[Any], _T], value: Any) -> _T:
    try:
        return convert(value)
    except ValueError as error:
        raise vol.Invalid(str(error)) from None
