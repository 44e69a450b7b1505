"""The ranges of numbers and texts from outside, in one place, and how a refused value is shown.

Whatever is stored, summed or sent on has passed one of these: a whole number has at most 64 bits
with its sign, a float is finite, a text can be written as UTF-8 and stored by PostgreSQL. Items and
results are data and know no such bounds.
"""

import math
from typing import Any, Final

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
# 1 PiB: no device has it, and a thousand of them still add up within 64 bits.
SIZE_MAX_BYTES: Final = 2**50
# A hundred years of 365.25 days.
DURATION_MAX_S: Final = 36_525 * 86_400.0
# Items of a dataset; every one of them is a number that JavaScript has too.
ITEMS_MAX: Final = 2**53
TEXT_MAX_CHARS: Final = 32_768
LIST_MAX: Final = 256
_SHOWN_CHARS: Final = 60


def is_int(value: object, low: int, high: int) -> bool:
    """Whether it is a whole number (True and False are none) from `low` to `high`."""
    return type(value) is int and low <= value <= high


def is_number(value: object, low: float, high: float) -> bool:
    """Whether it is a number from `low` to `high`; NaN is not."""
    # An int of any size can be compared with a float, but not converted to one.
    return type(value) in (int, float) and low <= value <= high  # type: ignore[operator]


def is_finite(value: object) -> bool:
    """Whether it is a number that has a finite float."""
    return is_number(value, -1.7e308, 1.7e308) and math.isfinite(value)  # type: ignore[arg-type]


def is_text(value: object, most_chars: int = TEXT_MAX_CHARS, least_chars: int = 0) -> bool:
    """Whether it is a text of that length without NUL and without halves of surrogate pairs."""
    return (
        isinstance(value, str)
        and least_chars <= len(value) <= most_chars
        and "\0" not in value
        and (value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value))
    )


def shown(value: Any) -> str:
    """Return a value for a message: shortened, and without characters that act on a terminal."""
    if isinstance(value, str):
        short = value if len(value) <= _SHOWN_CHARS else value[:_SHOWN_CHARS] + "…"
        return repr(short)
    if isinstance(value, bytes | bytearray):
        return repr(bytes(value[:_SHOWN_CHARS]))
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    for kind in (list, tuple, dict, set, frozenset):
        # Those that remember their lines are called as any other.
        if isinstance(value, kind):
            return f"a {kind.__name__} of {len(value)}"
    try:
        text = repr(value)
    except Exception:
        return f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"
