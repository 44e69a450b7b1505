"""A directory that can't be written: a clear message, and what is there stays readable.

Root may write anywhere, so as root the scenarios run under another user id.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm_hub.exceptions import StoreError, StoreUnavailableError
from swarm_hub.storage import Store
from swarm_hub.util.clock import Clock
from tests.helpers.faults import run
from tests.storage.engine.writes import remember

pytestmark = pytest.mark.process

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a directory that another user can reach, which pytest's own are not."""
    made = Path(tempfile.mkdtemp(prefix="swarm_hub_unwritable"))
    yield made
    made.chmod(0o700)
    shutil.rmtree(made)


def become_nobody() -> None:
    """Give up root's rights; everything is imported by now."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def allow(folder: Path, mode: int) -> None:
    folder.chmod(mode)


def own(folder: Path, mode: int) -> None:
    """Give a directory and its files to the user the scenario runs as, then set its mode."""
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    folder.chmod(mode)


async def opens(folder: Path) -> str:
    """Return what `open` says, "opened" when it has nothing to say."""
    become_nobody()
    store = Store.on_file(folder / "swarm_hub.db", Clock())
    try:
        await store.open()
    except StoreError as error:
        return str(error)
    finally:
        await store.close()
    return "opened"


async def makes(folder: Path) -> None:
    store = Store.on_file(folder / "swarm_hub.db", Clock())
    await store.open()
    await store.commit([remember(1)])
    await store.close()


async def loses_its_directory(folder: Path) -> str:
    """The directory becomes read-only while the store is open, and is writable again."""
    become_nobody()
    store = Store.on_file(folder / "swarm_hub.db", Clock())
    await store.open()
    await store.commit([remember(1)])
    allow(folder, 0o500)
    # The open files can still be written; only a new file can't be made.
    await store.commit([remember(2)])
    try:
        await store.blobs.put(bytes(100_000), 0.0)
        said = "put"
    except StoreUnavailableError as error:
        said = str(error).rpartition(": ")[2]
    allow(folder, 0o700)
    _, row = await store.blobs.put(bytes(100_000), 0.0)
    await store.commit([row])
    await store.close()
    return said


def test_a_new_store_in_a_directory_that_can_not_be_written_is_refused(folder: Path) -> None:
    own(folder, 0o500)
    assert run(opens, folder) == (
        f"{folder}/swarm_hub.db: the database can't be opened (Permission denied); "
        "check that the directory exists, is writable and has free space"
    )
    assert list(folder.iterdir()) == []


def test_a_store_in_a_directory_that_can_no_longer_be_written_is_refused(folder: Path) -> None:
    run(makes, folder)
    own(folder, 0o500)
    said = run(opens, folder)
    assert said.startswith(f"{folder}/swarm_hub.db: the database can't be opened (")
    assert said.endswith("check that the directory exists, is writable and has free space")
    assert [path.name for path in folder.iterdir()] == ["swarm_hub.db"]
    own(folder, 0o700)
    assert run(opens, folder) == "opened"


def test_a_database_file_that_can_not_be_written_is_refused(folder: Path) -> None:
    run(makes, folder)
    own(folder, 0o700)
    (folder / "swarm_hub.db").chmod(0o400)
    said = run(opens, folder)
    assert said.startswith(f"{folder}/swarm_hub.db: the database can't be opened (")


def test_a_directory_below_one_that_can_not_be_written_is_refused(folder: Path) -> None:
    own(folder, 0o500)
    said = run(opens, folder / "below")
    assert said.startswith(f"{folder}/below/swarm_hub.db: the database can't be opened (")
    assert "Permission denied" in said


def test_an_open_store_outlives_a_directory_that_is_read_only_for_a_while(folder: Path) -> None:
    own(folder, 0o700)
    assert run(loses_its_directory, folder) == "Permission denied"
