"""What `doctor` looks at: each module has checks, each check gives findings."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check; `level` is ok, warn or bad, `command` mends what is not ok."""

    level: str
    subject: str
    text: str
    command: str = ""


# What a check gets is the configuration directory, which need not exist.
Check = Callable[[Path], list[Finding]]
