"""A consistent copy of a database that a hub may be writing to, and the checks of such a copy."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from swarm_hub.exceptions import BackupError
from swarm_hub.storage.backup.archive import Progress

# With pages of 4 KiB, a step takes a millisecond or two; progress is reported after each.
_PAGES_A_STEP: Final = 1024


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy of a database: its file and what it says about itself; `blobs` are those in files."""

    path: Path
    schema: int
    db_id: str
    blobs: tuple[tuple[str, int], ...]


def take_snapshot(database: Path, target: Path, progress: Progress) -> Snapshot:
    """Copy a database, which may be in use, to the new file `target`, and check the copy."""
    # Opened only through SQLite: a process that closes the file in any other way loses SQLite's
    # locks.
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    uri = f"file:{quote(os.path.abspath(database))}?mode=ro"
    with (
        closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as live,
        closing(sqlite3.connect(target, isolation_level=None)) as copy,
    ):
        live.execute("PRAGMA busy_timeout=5000")
        copy.execute("PRAGMA synchronous=OFF")
        copy.execute("PRAGMA journal_mode=OFF")
        # Without a transaction of its own the copy would start over after each commit.
        live.execute("BEGIN")
        live.execute("SELECT count(*) FROM sqlite_master").fetchone()
        live.backup(copy, pages=_PAGES_A_STEP, progress=_page_progress(progress))
    return _facts(target, database)


def open_snapshot(path: Path) -> sqlite3.Connection:
    """Open a database file that nobody writes to, leaving no -wal and -shm beside it."""
    uri = f"file:{quote(os.path.abspath(path))}?mode=ro&immutable=1"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    connection.execute("PRAGMA trusted_schema=OFF")
    connection.execute("PRAGMA cell_size_check=ON")
    return connection


def snapshot_problem(connection: sqlite3.Connection) -> str | None:
    """Return what is wrong with a database file, or None."""
    try:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if found == "ok" else str(found)


def schema_of(connection: sqlite3.Connection) -> int:
    """Return the version of a database file's schema."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def database_id_of(connection: sqlite3.Connection) -> str:
    """Return the id of a database file; empty if a hub was killed before it assigned one."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'db_id'").fetchone()
    return str(row[0]) if row else ""


def _page_progress(progress: Progress) -> Callable[[int, int, int], None]:
    return lambda _status, left, total: progress("database", total - left, total)


def _facts(snapshot: Path, database: Path) -> Snapshot:
    with closing(open_snapshot(snapshot)) as connection:
        problem = snapshot_problem(connection)
        if problem is not None:
            raise BackupError(
                f"{database}: the database is damaged ({problem}); nothing was saved, earlier "
                "backups are untouched: stop the hub, copy its directory, restore a backup"
            )
        blobs = connection.execute("SELECT sha, size_bytes FROM blobs WHERE body IS NULL")
        return Snapshot(
            snapshot, schema_of(connection), database_id_of(connection), tuple(blobs.fetchall())
        )
