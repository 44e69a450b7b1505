"""Sizes and durations as people write them: `128MiB`, `24h`, `1.5s`."""

import math
import re
from collections.abc import Mapping
from typing import Final

_SIZE_UNITS: Final = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9,
    "kib": 2**10, "mib": 2**20, "gib": 2**30,
}  # fmt: skip
_DURATION_UNITS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*\Z", re.ASCII)


def parse_size(value: int | str) -> int:
    """Return bytes for `65536`, `64KiB` or `1.5 GB`; raise ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"expected a size such as 128MiB, got {value!r}")
    if isinstance(value, int):
        if value < 0:
            raise ValueError(f"a size can't be negative, got {value}")
        return value
    number, unit = _split(value, _SIZE_UNITS, "a size such as 128MiB")
    return round(number * unit)


def parse_duration(value: float | str) -> float:
    """Return seconds for `300`, `1.5s` or `24h`; raise ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"expected a duration such as 300 or 24h, got {value!r}")
    if isinstance(value, int | float):
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"a duration must be finite and not negative, got {value}")
        return float(value)
    number, unit = _split(value, _DURATION_UNITS, "a duration such as 300 or 24h")
    return number * unit


def format_size(size_bytes: float) -> str:
    """Render bytes in the largest binary unit that keeps at least one digit before the point."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"


def _split(text: str, units: Mapping[str, float], expected: str) -> tuple[float, float]:
    match = _QUANTITY.match(text)
    unit = units.get(match[2].lower()) if match else None
    if match is None or unit is None:
        known = ", ".join(name for name in units if name)
        raise ValueError(f"expected {expected} (units: {known}), got {text!r}")
    return float(match[1]), unit
