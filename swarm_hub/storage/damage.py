"""A damaged SQLite file: remembered over a restart, and moved aside whole.

A mark beside the file says that it is damaged, until it is moved or replaced. So damage that is
found while the hub runs is acted upon at its next start, and a kill between two renames is
finished there.
"""

import time
from pathlib import Path
from typing import Final

from swarm_hub.exceptions import StoreDamagedError
from swarm_hub.util.files import sync_directory, write_atomic

# The log and its index are worth nothing without their database, nor the database without them.
_SUFFIXES: Final = ("-wal", "-shm", "")


def raise_if_marked(database: Path) -> None:
    """Raise StoreDamagedError if damage was found before."""
    try:
        finding = _mark(database).read_text(errors="replace").strip()
    except FileNotFoundError:
        return
    raise StoreDamagedError(str(database), finding or "marked as damaged")


def mark(database: Path, finding: str) -> None:
    """Remember that the file is damaged; it is on disk when this returns."""
    write_atomic(_mark(database), finding.encode())


def move_aside(database: Path, finding: str) -> Path:
    """Rename the database with its log out of the way; returns its new name."""
    mark(database, finding)
    stamp = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime())
    aside = database.with_name(f"{database.name}.corrupt.{stamp}")
    for suffix in _SUFFIXES:
        part = database.with_name(f"{database.name}{suffix}")
        if part.exists():
            part.replace(aside.with_name(f"{aside.name}{suffix}"))
    sync_directory(database.parent)
    _mark(database).unlink()
    return aside


def _mark(database: Path) -> Path:
    return database.with_name(f"{database.name}.damaged")
