"""Ways in which a database on a disk goes bad, as a table for tests of repair and refusal.

Each takes the path of a closed database, or of one that was killed (then with its -wal), and
damages it in place:

    @pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
    async def test_a_hub_with_a_damaged_database(tmp_path: Path, damage: Damage) -> None:
        damage(database)
"""

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from swarm_hub.storage.queries.inbox import InboxEntry

PAGE_BYTES: Final = 4096
N_ROWS: Final = 300
Damage = Callable[[Path], None]


def inbox_rows(first: int) -> list[InboxEntry]:
    """Return rows for `inbox`, with the word `payload` in each value."""
    body = b"payload" * 100
    return [
        InboxEntry(f"{number:06}", "gateway", "{}", "sha", len(body), body, float(number), "")
        for number in range(first, first + N_ROWS)
    ]


def garbage_in_the_middle(database: Path) -> None:
    """Overwrite the pages of the middle third."""
    size = database.stat().st_size
    first = size // 3 // PAGE_BYTES * PAGE_BYTES
    overwrite(database, first, random.Random(1).randbytes(size // 3))


def truncated(database: Path) -> None:
    """Cut the file in half, inside a page."""
    with database.open("r+b") as file:
        file.truncate(database.stat().st_size // 2 + 100)


def emptied(database: Path) -> None:
    """Leave a file without a byte, as some file systems do after a power cut."""
    database.write_bytes(b"")


def zeroed_header(database: Path) -> None:
    """Overwrite the first 100 bytes with zeros."""
    overwrite(database, 0, bytes(100))


def garbage_header(database: Path) -> None:
    """Overwrite the first page."""
    overwrite(database, 0, random.Random(2).randbytes(PAGE_BYTES))


def bit_flip_in_a_page(database: Path) -> None:
    """Turn a bit in the list of the cells of the root page of `inbox`."""
    overwrite_bit(database, (root_page(database, "inbox") - 1) * PAGE_BYTES + 9)


def bit_flip_in_a_value(database: Path) -> None:
    """Turn a bit in the middle of the file's last value, which no check of SQLite sees.

    The value has the word `payload` in it.
    """
    content = database.read_bytes()
    overwrite_bit(database, content.rindex(b"payload") + 3)


def garbage_wal(database: Path) -> None:
    """Overwrite the write-ahead log with random bytes."""
    wal = wal_of(database)
    wal.write_bytes(random.Random(3).randbytes(max(wal.stat().st_size, PAGE_BYTES)))


def torn_wal(database: Path) -> None:
    """Cut the write-ahead log inside its last frame."""
    wal = wal_of(database)
    with wal.open("r+b") as file:
        file.truncate(wal.stat().st_size - 1000)


def missing_wal(database: Path) -> None:
    """Take the write-ahead log away, as a copy of only the database does."""
    wal_of(database).unlink()


# Of a database that was closed.
DAMAGES: Final[dict[str, Damage]] = {
    "garbage in the middle": garbage_in_the_middle,
    "truncated": truncated,
    "emptied": emptied,
    "zeroed header": zeroed_header,
    "garbage header": garbage_header,
    "bit flip in a page": bit_flip_in_a_page,
    "bit flip in a value": bit_flip_in_a_value,
}
# Of a database whose process was killed: its newest transactions are in the -wal.
WAL_DAMAGES: Final[dict[str, Damage]] = {
    "garbage WAL": garbage_wal,
    "torn WAL": torn_wal,
    "missing WAL": missing_wal,
}


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Write in place; never beyond the end."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data[: path.stat().st_size - offset])


def overwrite_bit(path: Path, offset: int) -> None:
    """Turn the lowest bit of a byte."""
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def wal_of(database: Path) -> Path:
    """Return the path of a database's write-ahead log."""
    return database.with_name(f"{database.name}-wal")


def root_page(database: Path, table: str) -> int:
    """Return the number of a table's root page, the first page being 1."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        return int(connection.execute(query, (table,)).fetchone()[0])
