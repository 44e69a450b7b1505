"""What a store says today about a damaged database; the damages are in damage.py.

These are facts, not wishes: most damage is found late or not at all until somebody looks, which
is why a hub needs a rule for it.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from swarm_hub.exceptions import StoreDamagedError, StoreError
from swarm_hub.storage import Store
from swarm_hub.storage.queries import inbox
from swarm_hub.util.clock import Clock
from tests.helpers.damage import DAMAGES, N_ROWS, WAL_DAMAGES, inbox_rows


async def closed(folder: Path) -> Path:
    """Return a database with 300 rows whose store was closed."""
    database = folder / "swarm_hub.db"
    store = Store.on_file(database, Clock())
    await store.open()
    await store.commit([inbox.accept(inbox_rows(0))])
    await store.close()
    return database


async def killed(folder: Path) -> Path:
    """Return a database with 300 rows in the file and 300 in the WAL, as a kill leaves it."""
    database = await closed(folder / "before")
    store = Store.on_file(database, Clock())
    await store.open()
    # Few transactions, so that no checkpoint brings them into the file.
    for first in range(N_ROWS, 2 * N_ROWS, 30):
        await store.commit([inbox.accept(inbox_rows(first)[:30])])
    shutil.copytree(database.parent, folder / "after", ignore=shutil.ignore_patterns("*-shm"))
    await store.close()
    return folder / "after" / "swarm_hub.db"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a store says: None where it is content; `rows` -1 where they can't be read."""

    opening: str | None
    rows: int
    quick_check_finds_it: bool


async def seen_of(database: Path) -> Seen:
    store = Store.on_file(database, Clock())
    try:
        await store.open()
    except StoreError as error:
        message = str(error).removeprefix(f"{database}: ")
        return Seen(message.partition(";")[0], -1, quick_check_finds_it=True)
    try:
        n_rows = len(await store.read(inbox.open_entries))
    except StoreDamagedError:
        n_rows = -1
    try:
        checked = await store.read(lambda each: each.exec_driver_sql("PRAGMA quick_check").all())
        sound = checked == [("ok",)]
    except StoreDamagedError:
        # Where the damage is in what it needs itself, the check does not end.
        sound = False
    await store.close()
    return Seen(None, n_rows, quick_check_finds_it=not sound)


MALFORMED = "the database is damaged (database disk image is malformed)"
NO_DATABASE = "the database is damaged (file is not a database)"

CLOSED = {
    "garbage in the middle": Seen(MALFORMED, -1, quick_check_finds_it=True),
    "truncated": Seen(MALFORMED, -1, quick_check_finds_it=True),
    # An empty file is a new database to SQLite: everything is gone and nothing is said.
    "emptied": Seen(None, 0, quick_check_finds_it=False),
    "zeroed header": Seen(NO_DATABASE, -1, quick_check_finds_it=True),
    "garbage header": Seen(NO_DATABASE, -1, quick_check_finds_it=True),
    "bit flip in a page": Seen(None, -1, quick_check_finds_it=True),
    # Only a hash that is stored with the value can find this one.
    "bit flip in a value": Seen(None, N_ROWS, quick_check_finds_it=False),
}
# A WAL counts up to its first wrong frame; what is lost with it is lost without a word.
KILLED = {
    "garbage WAL": Seen(None, N_ROWS, quick_check_finds_it=False),
    "torn WAL": Seen(None, 2 * N_ROWS - 30, quick_check_finds_it=False),
    "missing WAL": Seen(None, N_ROWS, quick_check_finds_it=False),
}


@pytest.mark.parametrize(("name", "seen"), CLOSED.items(), ids=CLOSED)
async def test_damage_of_a_closed_database(tmp_path: Path, name: str, seen: Seen) -> None:
    database = await closed(tmp_path)
    DAMAGES[name](database)
    assert await seen_of(database) == seen


@pytest.mark.parametrize(("name", "seen"), KILLED.items(), ids=KILLED)
async def test_damage_of_the_wal_of_a_killed_store(tmp_path: Path, name: str, seen: Seen) -> None:
    database = await killed(tmp_path)
    WAL_DAMAGES[name](database)
    assert await seen_of(database) == seen


async def test_an_undamaged_killed_store_has_everything(tmp_path: Path) -> None:
    seen = Seen(None, 2 * N_ROWS, quick_check_finds_it=False)
    assert await seen_of(await killed(tmp_path)) == seen


def test_the_tables_are_complete() -> None:
    assert (set(CLOSED), set(KILLED)) == (set(DAMAGES), set(WAL_DAMAGES))


@pytest.mark.parametrize("damage", ["truncated", "garbage header"])
async def test_a_store_that_can_not_be_opened_holds_no_file(tmp_path: Path, damage: str) -> None:
    """Whoever moves a damaged database aside must not leave a writer on it."""
    database = await closed(tmp_path)
    DAMAGES[damage](database)
    store = Store.on_file(database, Clock())
    with pytest.raises(StoreError):
        await store.open()
    assignment_ids = {file.path for file in psutil.Process().open_files()}
    assert not any(path.startswith(str(tmp_path)) for path in assignment_ids)
