"""A damaged SQLite file: remembered across a restart, and moved aside whole.

A mark beside the file says that it is damaged, until it is moved or replaced. So damage found while
the hub runs is handled at its next start, and a move that was killed between two renames is
completed then.
"""

import time
from pathlib import Path
from typing import Final

from ulid_transform import ulid_now

from swarm_hub.exceptions import StoreDamagedError, StoreError
from swarm_hub.util.files import sync_directory, write_atomic

# The log and its index are worthless without their database, and so is the database without them.
_SUFFIXES: Final = ("-wal", "-shm", "-journal", "")


def raise_if_marked(database: Path) -> None:
    """Raise StoreDamagedError if damage was found before."""
    if (finding := _marked(database)[0]) is not None:
        raise StoreDamagedError(str(database), finding)


def mark(database: Path, finding: str) -> None:
    """Remember that the file is damaged; this is on disk when it returns."""
    # The name of an unfinished move stays in it.
    _write_mark(database, finding, _marked(database)[1])


def move_aside(database: Path, finding: str) -> Path:
    """Rename the database with its log out of the way; returns its new name.

    If it was killed between two renames, calling it again completes the move. Raises StoreError if
    the directory can't be written.
    """
    try:
        # What was moved before a kill has the name in the mark, and the rest gets it too.
        name = _marked(database)[1] or _free_name(database)
        _write_mark(database, finding, name)
        for suffix in _SUFFIXES:
            part = database.with_name(f"{database.name}{suffix}")
            if part.exists():
                part.replace(database.with_name(f"{name}{suffix}"))
        sync_directory(database.parent)
        _mark(database).unlink()
    except OSError as error:
        raise StoreError(
            f"{database}: the damaged database can't be moved aside ({error.strerror}); check "
            "that its directory is writable and has free space"
        ) from error
    return database.with_name(name)


def _free_name(database: Path) -> str:
    stamp = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime())
    name = f"{database.name}.corrupt.{stamp}"
    taken = any(database.with_name(f"{name}{suffix}").exists() for suffix in _SUFFIXES)
    return f"{name}.{ulid_now()}" if taken else name


def _write_mark(database: Path, finding: str, aside: str) -> None:
    (first_line, _, _) = finding.partition("\n")
    write_atomic(_mark(database), f"{first_line}\n{aside}".encode())


def _marked(database: Path) -> tuple[str | None, str]:
    """Return the finding, None if there is no mark, and the name the file is being moved to."""
    try:
        finding, _, aside = _mark(database).read_text(errors="replace").partition("\n")
    except FileNotFoundError:
        return None, ""
    return finding.strip() or "marked as damaged", aside.strip()


def _mark(database: Path) -> Path:
    return database.with_name(f"{database.name}.damaged")
