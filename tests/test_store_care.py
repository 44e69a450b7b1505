"""A damaged database, by role: a worker starts anew, a gateway asks or restores."""

import asyncio
import os
import pty
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.config import read_configuration
from swarm_hub.const import DATABASE_MADE_FILE
from swarm_hub.exceptions import SetupError
from swarm_hub.storage import Store
from swarm_hub.storage.backup.backup import make_backup, new_file
from swarm_hub.storage.queries import inbox
from swarm_hub.store_care import backup_source
from swarm_hub.util.clock import Clock
from tests.conftest import MovableClock, RunningHub, Swarm, until
from tests.helpers.command_line import Done, run_process
from tests.helpers.damage import DAMAGES, PAGE_BYTES, Damage, inbox_rows, overwrite, wal_of
from tests.helpers.rest import call, finished, submit

Modules = dict[str, bytes]

# Everything that can be noticed; a bit of a value is found only where a hash is stored with it.
NOTICED = {name: damage for name, damage in DAMAGES.items() if name != "bit flip in a value"}
N_ITEMS = 300
SPEC = {"shard_size": 20, "reduce": "sum"}
LARGE_DATASET = b"".join(number.to_bytes(4, "little") for number in range(20_000))
# A hub checks a file up to 16 MiB before it starts, and a larger one beside its start.
CHECKED_BESIDE_BYTES = 18 * 1024 * 1024


def database_of(hub: RunningHub) -> Path:
    return hub.folder / "swarm_hub.db"


def aside_of(database: Path) -> list[str]:
    """Return what was moved aside, without the time in its name."""
    found = database.parent.glob(f"{database.name}.corrupt.*")
    return sorted(re.sub(r"\.corrupt\.[-0-9TZ]{20}", ".corrupt", each.name) for each in found)


def mark_of(database: Path) -> Path:
    return database.with_name(f"{database.name}.damaged")


def left_unclean(database: Path) -> None:
    """Leave a log beside a closed database, as after a kill; its frames count for nothing."""
    wal_of(database).write_bytes(bytes(PAGE_BYTES))


async def changed(database: Path, change: Callable[[Store], Any]) -> None:
    store = Store.on_file(database, Clock())
    await store.open()
    await change(store)
    await store.close()


async def damaged_after_a_kill(database: Path, damage: Damage) -> None:
    """Damage a stopped hub's database; it has rows where some of the damages strike."""
    await changed(database, lambda store: store.commit([inbox.accept(inbox_rows(0))]))
    damage(database)
    left_unclean(database)


async def shards_done(gateway: RunningHub, job_id: str) -> int:
    _, status = await call(gateway, "GET", f"/jobs/{job_id}")
    return int(status["progress"]["shards_done"])


async def queued_job(gateway: RunningHub, modules: Modules) -> str:
    """Return a job whose dataset is a blob file."""
    code, body = await submit(gateway, modules["sum"], LARGE_DATASET)
    assert code == 202
    return str(body["job_id"])


async def backed_up(gateway: RunningHub) -> Path:
    """Make a backup where the hub would."""
    source = backup_source(read_configuration(gateway.folder, "gateway"))
    target = new_file(gateway.folder / "backups", "gateway", Clock().time())
    made = await asyncio.to_thread(make_backup, source, target, Clock().time())
    assert made.problems == ()
    return made.path


async def starts_and_finishes(swarm: Swarm, job_id: str, extra: str = "") -> RunningHub:
    """Start the gateway again with a worker; the job ends right."""
    gateway = await swarm.gateway(extra=extra)
    await swarm.worker("worker")
    async with asyncio.timeout(30):
        status = await finished(gateway, job_id)
    assert (status["state"], status["result"]) == ("completed", sum(range(20_000)))
    return gateway


def typed(command: str) -> Done:
    """Type a command at a terminal, and y where it asks."""
    arguments = shlex.split(command, comments=True)
    assert arguments[0] == "swarm-hub"
    keyboard, terminal = pty.openpty()
    os.write(keyboard, b"y\n")
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "swarm_hub", *arguments[1:]],
            stdin=terminal, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(keyboard)
        os.close(terminal)
    return Done(ended.returncode, ended.stdout, ended.stderr)


def offered_commands(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip().startswith("swarm-hub ")]


# A worker.


@pytest.mark.parametrize("damage", NOTICED.values(), ids=NOTICED)
async def test_a_worker_starts_with_a_new_database_and_its_job_finishes(
    swarm: Swarm, modules: Modules, damage: Damage
) -> None:
    gateway = await swarm.gateway()
    worker = await swarm.worker("worker")
    database = database_of(worker)
    _, body = await submit(gateway, modules["spin"], f"0:{N_ITEMS}".encode(), SPEC)
    await until(lambda: shards_done(gateway, body["job_id"]), lambda done: done >= 1)
    await swarm.stop(worker)
    await damaged_after_a_kill(database, damage)
    again = await swarm.worker("worker")
    async with asyncio.timeout(30):
        status = await finished(gateway, body["job_id"])
    assert (status["state"], status["result"]) == ("completed", N_ITEMS)
    assert again.hub.store.db_id != worker.hub.store.db_id
    assert "swarm_hub.db.corrupt" in aside_of(database)
    assert not mark_of(database).exists()


async def test_damage_that_only_the_first_reader_meets_is_acted_upon_in_the_same_start(
    swarm: Swarm,
) -> None:
    await swarm.gateway()
    worker = await swarm.worker("worker")
    await swarm.stop(worker)
    await changed(database_of(worker), lambda store: store.commit([inbox.accept(inbox_rows(0))]))
    # After a clean stop nothing is checked, and opening does not look into the inbox.
    DAMAGES["bit flip in a page"](database_of(worker))
    again = await swarm.worker("worker")
    assert again.hub.store.db_id != worker.hub.store.db_id
    assert aside_of(database_of(worker))[0] == "swarm_hub.db.corrupt"
    assert not mark_of(database_of(worker)).exists()


_DOOMED_MOVE = """
import os, signal, sys
from pathlib import Path
from swarm_hub.storage.engine import damage

replace, left = Path.replace, int(sys.argv[2])

def doomed(self, target):
    global left
    done = replace(self, target)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return done

Path.replace = doomed
damage.move_aside(Path(sys.argv[1]), "found")
"""


@pytest.mark.parametrize("renames", range(1, 5))
async def test_moving_aside_that_is_killed_is_ended_under_one_name_by_the_next_start(
    swarm: Swarm, renames: int
) -> None:
    """The first rename is the mark's, then the log's, its index's and the database's."""
    await swarm.gateway()
    worker = await swarm.worker("worker")
    database = database_of(worker)
    await swarm.stop(worker)
    parts = {"": database.read_bytes(), "-shm": b"index", "-wal": b"log"}
    for suffix, content in parts.items():
        database.with_name(f"{database.name}{suffix}").write_bytes(content)
    killed = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", _DOOMED_MOVE, str(database), str(renames)]
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(aside_of(database)) == renames - 1
    again = await swarm.worker("worker")
    assert again.hub.store.db_id != worker.hub.store.db_id
    (aside,) = (each for each in database.parent.glob("*.corrupt.*") if each.name.endswith("Z"))
    assert {s: aside.with_name(aside.name + s).read_bytes() for s in parts} == parts
    assert not mark_of(database).exists()


async def test_two_databases_are_moved_aside_in_the_same_second(swarm: Swarm) -> None:
    await swarm.gateway()
    for number in range(2):
        worker = await swarm.worker("worker")
        await swarm.stop(worker)
        DAMAGES["garbage header"](database_of(worker))
        await swarm.stop(await swarm.worker("worker"))
        assert len(aside_of(database_of(worker))) == number + 1


# A gateway.


@pytest.mark.parametrize("damage", NOTICED.values(), ids=NOTICED)
async def test_a_gateway_does_not_start_and_says_what_to_do(
    swarm: Swarm, modules: Modules, damage: Damage
) -> None:
    gateway = await swarm.gateway()
    await queued_job(gateway, modules)
    backup = await backed_up(gateway)
    await swarm.stop(gateway)
    await damaged_after_a_kill(database_of(gateway), damage)
    # SQLite counts a change in the header when it opens the file.
    before = database_of(gateway).read_bytes()[PAGE_BYTES:]
    for _ in range(2):
        with pytest.raises(SetupError) as refused:
            await swarm.gateway()
        assert "swarm_hub.db: the database is damaged (" in str(refused.value)
        restore, empty = offered_commands(str(refused.value))
        assert restore.startswith(f"swarm-hub restore {backup} -c {gateway.folder} ")
        assert empty.startswith(f"swarm-hub restore --empty -c {gateway.folder} ")
        assert database_of(gateway).read_bytes()[PAGE_BYTES:] == before
        assert aside_of(database_of(gateway)) == []


async def test_a_gateway_without_a_backup_offers_to_give_up_its_jobs_only(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    await swarm.stop(gateway)
    DAMAGES["garbage header"](database_of(gateway))
    with pytest.raises(SetupError, match="there is no backup") as refused:
        await swarm.gateway()
    assert str(refused.value).endswith(f": swarm-hub restore --empty -c {gateway.folder}")


async def test_the_commands_a_damaged_gateway_names_work(swarm: Swarm, modules: Modules) -> None:
    gateway = await swarm.gateway()
    job_id = await queued_job(gateway, modules)
    await backed_up(gateway)
    await swarm.stop(gateway)

    async def refused() -> tuple[str, str]:
        DAMAGES["garbage header"](database_of(gateway))
        ended = await asyncio.to_thread(run_process, "run", "-c", gateway.folder)
        assert (ended.code, ended.out, "Traceback" in ended.err) == (1, "", False)
        restore, empty = offered_commands(ended.err)
        return restore, empty

    restore, _ = await refused()
    done = await asyncio.to_thread(typed, restore)
    assert done.code == 0, done.err
    again = await starts_and_finishes(swarm, job_id)
    await swarm.stop_all()

    _, empty = await refused()
    done = await asyncio.to_thread(typed, empty)
    assert done.code == 0, done.err
    assert "kept as" in done.err
    fresh = await swarm.gateway()
    assert (await call(fresh, "GET", "/jobs"))[1]["jobs"] == []
    assert fresh.hub.store.db_id != again.hub.store.db_id


@pytest.mark.parametrize("damage", ["garbage header", "emptied"])
async def test_a_gateway_that_may_restores_its_newest_backup_by_itself(
    swarm: Swarm, modules: Modules, damage: str
) -> None:
    extra = "storage: {on_damage: restore}\n"
    gateway = await swarm.gateway(extra=extra)
    job_id = await queued_job(gateway, modules)
    await backed_up(gateway)
    keys = {each: each.read_bytes() for each in (gateway.folder / ".storage").glob("*.key")}
    await swarm.stop(gateway)
    DAMAGES[damage](database_of(gateway))
    shutil.rmtree(gateway.folder / "blobs")
    secrets = gateway.folder / "secrets.yaml"
    secrets.write_text("later: than the backup\n")

    again = await starts_and_finishes(swarm, job_id, extra)
    assert again.hub.store.db_id == gateway.hub.store.db_id
    assert {each: each.read_bytes() for each in keys} == keys
    assert secrets.read_text() == "later: than the backup\n"
    (replaced,) = gateway.folder.glob("replaced.*")
    assert (replaced / "swarm_hub.db").exists()
    assert not list(replaced.rglob("*.key"))
    assert not mark_of(database_of(gateway)).exists()


async def test_a_newest_backup_that_is_damaged_too_is_not_restored(
    swarm: Swarm, modules: Modules
) -> None:
    extra = "storage: {on_damage: restore}\n"
    gateway = await swarm.gateway(extra=extra)
    await queued_job(gateway, modules)
    backup = await backed_up(gateway)
    await swarm.stop(gateway)
    DAMAGES["garbage header"](database_of(gateway))
    overwrite(backup, backup.stat().st_size // 2, os.urandom(PAGE_BYTES))
    for _ in range(2):
        with pytest.raises(SetupError, match="restore --empty"):
            await swarm.gateway(extra=extra)
    assert not list(gateway.folder.glob("replaced.*"))


# A database that is gone.


def without_database(database: Path) -> None:
    database.unlink()


def without_rows(database: Path) -> None:
    """Leave what a kill of a new hub leaves when its log is lost: a header and no table."""
    database.unlink()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


GONE = {"emptied": DAMAGES["emptied"], "deleted": without_database, "no tables": without_rows}


@pytest.mark.parametrize("lose", GONE.values(), ids=GONE)
async def test_a_gateway_does_not_take_a_lost_database_for_a_new_one(
    swarm: Swarm, lose: Damage
) -> None:
    gateway = await swarm.gateway()
    await swarm.stop(gateway)
    lose(database_of(gateway))
    for _ in range(2):
        with pytest.raises(SetupError, match="it was made before, and is now gone or empty"):
            await swarm.gateway()
    done = await asyncio.to_thread(typed, f"swarm-hub restore --empty -c {gateway.folder}")
    assert done.code == 0, done.err
    assert (await swarm.gateway()).hub.store.db_id != gateway.hub.store.db_id


@pytest.mark.parametrize("lose", GONE.values(), ids=GONE)
async def test_a_worker_with_a_lost_database_makes_a_new_one(swarm: Swarm, lose: Damage) -> None:
    await swarm.gateway()
    worker = await swarm.worker("worker")
    await swarm.stop(worker)
    lose(database_of(worker))
    again = await swarm.worker("worker")
    assert again.hub.store.db_id != worker.hub.store.db_id


async def test_a_database_that_is_put_back_is_taken_as_it_is(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    await swarm.stop(gateway)
    elsewhere = database_of(gateway).rename(gateway.folder.parent / "elsewhere")
    with pytest.raises(SetupError, match="gone or empty"):
        await swarm.gateway()
    elsewhere.rename(database_of(gateway))
    assert (await swarm.gateway()).hub.store.db_id == gateway.hub.store.db_id


async def test_another_database_in_the_configuration_is_a_new_one(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    await swarm.stop(gateway)
    other = await swarm.gateway(extra="storage: {url: 'sqlite:///other.db'}\n")
    await swarm.stop(other)
    # The first one is known no longer, and its file is as it was.
    assert (await swarm.gateway()).hub.store.db_id == gateway.hub.store.db_id


async def test_a_gateway_of_an_earlier_version_is_remembered_at_its_next_start(
    swarm: Swarm,
) -> None:
    gateway = await swarm.gateway()
    await swarm.stop(gateway)
    (gateway.folder / DATABASE_MADE_FILE).unlink()
    await swarm.stop(await swarm.gateway())
    DAMAGES["emptied"](database_of(gateway))
    with pytest.raises(SetupError, match="gone or empty"):
        await swarm.gateway()


# Damage that is found while the hub runs.


def overwrite_all_but_the_header(database: Path) -> None:
    overwrite(database, PAGE_BYTES, os.urandom(database.stat().st_size))


async def stopped_by_damage(swarm: Swarm, running: RunningHub) -> None:
    async with asyncio.timeout(20):
        await running.hub.wait_asked_to_stop()
    assert running.hub.exit_code == 1
    assert mark_of(database_of(running)).exists()
    await swarm.stop(running)


async def test_a_gateway_stops_when_a_read_meets_damage_and_asks_at_its_next_start(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    job_id = await queued_job(gateway, modules)
    await swarm.stop(gateway)
    gateway = await swarm.gateway()
    overwrite_all_but_the_header(database_of(gateway))
    code, _ = await call(gateway, "GET", f"/jobs/{job_id}/story")
    assert code == 500
    await stopped_by_damage(swarm, gateway)
    with pytest.raises(SetupError, match="restore --empty"):
        await swarm.gateway()


async def test_a_worker_stops_when_a_write_meets_damage_and_starts_anew(
    swarm: Swarm, modules: Modules
) -> None:
    gateway = await swarm.gateway()
    await swarm.stop(await swarm.worker("worker"))
    worker = await swarm.worker("worker")
    overwrite_all_but_the_header(database_of(worker))
    _, body = await submit(gateway, modules["spin"], f"0:{N_ITEMS}".encode(), SPEC)
    await stopped_by_damage(swarm, worker)
    again = await swarm.worker("worker")
    assert again.hub.store.db_id != worker.hub.store.db_id
    async with asyncio.timeout(30):
        status = await finished(gateway, body["job_id"])
    assert status["result"] == N_ITEMS


async def test_a_large_database_is_checked_beside_the_start_after_a_kill(swarm: Swarm) -> None:
    gateway = await swarm.gateway()
    await swarm.stop(gateway)
    database = database_of(gateway)

    async def grow(store: Store) -> None:
        for _ in range(CHECKED_BESIDE_BYTES // 60_000):
            _, row = await store.blobs.put(os.urandom(60_000), Clock().time())
            await store.commit([row])
        await store.commit([inbox.accept(inbox_rows(0))])

    await changed(database, grow)
    # No gateway ever reads there.
    DAMAGES["bit flip in a page"](database)
    left_unclean(database)
    clock = MovableClock()
    await stopped_by_damage(swarm, await swarm.gateway(clock=clock))
    with pytest.raises(SetupError, match="restore --empty"):
        await swarm.gateway()
