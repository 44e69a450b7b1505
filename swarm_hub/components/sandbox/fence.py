"""What the kernel enforces on the children, according to their first answer."""

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fence:
    """The parts in force with what they cover, and the absent ones with the reason."""

    in_force: tuple[tuple[str, str], ...]
    absent: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        parts = [f"{name} ({covers})" for name, covers in self.in_force]
        missing = [f"no {name} ({reason})" for name, reason in self.absent]
        return ", ".join((*parts, *missing))


def parse_fence(body: bytes) -> Fence:
    """Read a child's first answer; raises ValueError when it says something else."""
    try:
        plain = json.loads(body)
        return Fence(_pairs(plain["in_force"]), _pairs(plain["absent"]))
    except (AttributeError, KeyError, TypeError, RecursionError) as err:
        raise ValueError("not a report on the fence") from err


def _pairs(plain: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((str(name), str(text)) for name, text in plain.items())
