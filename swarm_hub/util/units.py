"""Sizes and durations as people write them: `128MiB`, `24h`, `1.5s`."""

import re
from collections.abc import Mapping
from typing import Final

from swarm_hub.util.bounds import DURATION_MAX_S, SIZE_MAX_BYTES, is_finite, shown

_SIZE_UNITS: Final = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9,
    "kib": 2**10, "mib": 2**20, "gib": 2**30,
}  # fmt: skip
_DURATION_UNITS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# Each with the one below it, the largest first.
_LARGER_UNITS: Final = ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
_A_SIZE: Final = "a size such as 128MiB"
_A_DURATION: Final = "a duration such as 300 or 24h"
_QUANTITY: Final = re.compile(
    r"\s{0,8}([0-9]{1,20}(?:\.[0-9]{1,20})?)\s{0,8}([A-Za-z]{0,8})\s{0,8}\Z", re.ASCII
)


def parse_size(value: int | str) -> int:
    """Return bytes for `65536`, `64KiB` or `1.5 GB`; raise ValueError for anything else."""
    size = round(_split(value, _SIZE_UNITS, _A_SIZE)) if isinstance(value, str) else value
    if type(size) is not int:
        raise ValueError(f"expected {_A_SIZE}, got {shown(value)}")
    if size < 0:
        raise ValueError(f"a size can't be negative, got {shown(value)}")
    if size > SIZE_MAX_BYTES:
        raise ValueError(f"a size is at most 1048576GiB, got {shown(value)}")
    return size


def parse_duration(value: float | str) -> float:
    """Return seconds for `300`, `1.5s` or `24h`; raise ValueError for anything else."""
    seconds = _split(value, _DURATION_UNITS, _A_DURATION) if isinstance(value, str) else value
    if type(seconds) not in (int, float):
        raise ValueError(f"expected {_A_DURATION}, got {shown(value)}")
    if not (seconds >= 0 and is_finite(seconds)):
        raise ValueError(f"a duration must be finite and not negative, got {shown(value)}")
    if seconds > DURATION_MAX_S:
        raise ValueError(f"a duration is at most 36525d, got {shown(value)}")
    return float(seconds)


def format_size(size_bytes: float) -> str:
    """Render bytes in the largest binary unit that keeps at least one digit before the point."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"


def format_duration(duration_s: float) -> str:
    """Render seconds in the two largest units that matter: `0.4 s`, `3 min 20 s`, `2 d 5 h`."""
    if duration_s < 9.95:
        return f"{duration_s:.1f} s"
    whole_s = round(duration_s)
    if whole_s < 60:
        return f"{whole_s} s"
    unit_s, unit, below_s, below = next(each for each in _LARGER_UNITS if whole_s >= each[0])
    whole, rest = divmod(whole_s, unit_s)
    return f"{whole} {unit} {rest // below_s} {below}" if rest >= below_s else f"{whole} {unit}"


def _split(text: str, units: Mapping[str, float], expected: str) -> float:
    match = _QUANTITY.match(text)
    unit = units.get(match[2].lower()) if match else None
    if match is None or unit is None:
        known = ", ".join(name for name in units if name)
        raise ValueError(f"expected {expected} (units: {known}), got {shown(text)}")
    return float(match[1]) * unit
