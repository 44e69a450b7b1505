"""Looking into the stores of a soak, from outside and without writing."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

Rows = Callable[[str], Sequence[Sequence[Any]]]


@contextmanager
def sqlite_rows(database: Path) -> Iterator[Rows]:
    """Give a function that reads a SQLite file."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)) as connection:
        yield lambda query: connection.execute(query).fetchall()


def quick_check(database: Path) -> str | None:
    """Return what SQLite finds wrong with a file, None when nothing."""
    with sqlite_rows(database) as rows:
        ((found,),) = rows("PRAGMA quick_check(1)")
    return None if found == "ok" else f"{database}: {found}"


def kept(database: Path) -> str:
    """Return what a worker keeps in its inbox and outbox, empty when it keeps nothing."""
    try:
        with sqlite_rows(database) as rows:
            ((inbox,),) = rows("SELECT count(*) FROM inbox")
            ((outbox,),) = rows("SELECT count(*) FROM outbox")
    except sqlite3.Error as error:
        return str(error)  # it starts
    return f"{inbox} + {outbox} rows" if inbox or outbox else ""
