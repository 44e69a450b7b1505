"""The examples: each is a folder with an `example.toml` that says how it is built and run."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from swarm_hub.exceptions import HubError

ROOT: Final = Path(__file__).parents[2]
EXAMPLES: Final = ROOT / "examples"


@dataclass(frozen=True, slots=True)
class Example:
    """One example: its source, its input, its job, and what is done with the result."""

    name: str
    summary: str
    source: Path
    items: range | list[Path]
    spec: dict[str, Any]
    then: Path | None


def names() -> list[str]:
    """Return the names of all examples."""
    return sorted(path.parent.name for path in EXAMPLES.glob("*/example.toml"))


def read(name: str) -> Example:
    """Return an example; raises HubError for a mistake in its file."""
    path = EXAMPLES / name / "example.toml"
    try:
        return _example(path.parent, tomllib.loads(path.read_text("utf-8")))
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
        raise HubError(f"{path}: {type(error).__name__}: {error}") from error


def _example(folder: Path, told: dict[str, Any]) -> Example:
    spec = dict(told["job"])
    items: range | list[Path]
    if "range" in spec:
        low, high = spec.pop("range")
        items = range(low, high)
    else:
        items = sorted(path for glob in spec.pop("inputs") for path in folder.glob(glob))
        if not items:
            raise ValueError("inputs: no file fits")
    then = folder / told["then"] if "then" in told else None
    return Example(folder.name, told["summary"], folder / told["source"], items, spec, then)
