"""One file of a hub: whole while the hub writes, refused when it was changed, safe to kill."""

import asyncio
import logging
import os
import random
import shutil
import signal
import sqlite3
import tarfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from swarm_hub import bootstrap
from swarm_hub.config import read_configuration
from swarm_hub.const import INLINE_MAX_BYTES, RESTORE_FILE
from swarm_hub.exceptions import BackupError
from swarm_hub.storage import Store
from swarm_hub.storage.backup import archive
from swarm_hub.storage.backup import backup as backup_module
from swarm_hub.storage.backup.archive import BackupManifest, Member
from swarm_hub.storage.backup.backup import Source, backups, make_backup, new_file, newest_backup
from swarm_hub.storage.backup.restore import read_manifest, restore
from swarm_hub.storage.backup.schedule import BackupSchedule
from swarm_hub.storage.backup.unfinished import finish_restore
from swarm_hub.storage.queries import pruning
from swarm_hub.util.clock import Clock
from tests.conftest import MovableClock, Swarm, until
from tests.helpers.backups import CONFIG, SCHEMA_VERSION, forged, killed_at
from tests.helpers.rest import call, submit

NOW = 1_800_000_000.0
LARGE = random.Random(1).randbytes(INLINE_MAX_BYTES + 1)
LARGER = random.Random(2).randbytes(3 * INLINE_MAX_BYTES)


def state_of(folder: Path) -> dict[str, bytes]:
    """Return every file of a directory by its relative name, without locks and SQLite's own."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
        and path.suffix not in (".lock",)
        and path.name[-4:] not in ("-wal", "-shm")
    }


def rows_of(database: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def source_of(folder: Path) -> Source:
    return Source(folder, "kitchen", folder / "swarm_hub.db")


def saved(folder: Path, to: Path) -> Path:
    made = make_backup(source_of(folder), to, NOW)
    assert made.problems == ()
    return made.path


async def _filled(folder: Path, *bodies: bytes) -> None:
    store = Store.on_file(folder / "swarm_hub.db", Clock())
    await store.open()
    for body in bodies:
        _, row = await store.blobs.put(body, time.time())
        await store.commit([row])
    await store.close()


def make_hub(folder: Path, mark: str, *bodies: bytes) -> Path:
    """Make the directory of a hub whose every file says `mark`."""
    (folder / ".storage").mkdir(mode=0o700, parents=True)
    (folder / "configuration.yaml").write_text(
        f"# {mark}\nhub: {{name: kitchen}}\ngateway:\nmesh: !include parts/mesh.yaml\n"
    )
    (folder / "parts").mkdir()
    (folder / "parts" / "mesh.yaml").write_text(f"# {mark}\ntransport: loopback\n")
    (folder / "secrets.yaml").write_text(f"secret: {mark}\n")
    (folder / "custom_components" / "lamp").mkdir(parents=True)
    (folder / "custom_components" / "lamp" / "lamp.txt").write_text(mark)
    for name in ("identity.key", "signer.key"):
        (folder / ".storage" / name).write_bytes(mark.encode().ljust(32, b"."))
        (folder / ".storage" / name).chmod(0o600)
    (folder / ".storage" / "tokens.json").write_text("[]")
    (folder / ".storage" / "admin.token").write_text(mark)
    asyncio.run(_filled(folder, *(bodies or (mark.encode(), LARGE))))
    return folder


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A hub that is about to be replaced."""
    return make_hub(tmp_path / "old", "old", LARGE)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The backup of another hub, in the state `new`."""
    return saved(make_hub(tmp_path / "new", "new", LARGER, b"small"), tmp_path / "new.tar")


# The round trip.


async def test_a_backup_of_a_writing_hub_restores_a_hub_that_knows_its_jobs(
    swarm: Swarm, modules: dict[str, bytes], tmp_path: Path
) -> None:
    gateway = await swarm.gateway()
    store = gateway.hub.store
    datasets = [b"".join(n.to_bytes(4, "little") for n in range(size)) for size in (20_000, 30_000)]
    job_ids = [(await submit(gateway, modules["sum"], each))[1]["job_id"] for each in datasets]
    written = 0

    async def keep_writing() -> None:
        nonlocal written
        while True:
            _, row = await store.blobs.put(os.urandom(100), time.time())
            await store.commit([row])
            written += 1

    def writes_go_on(_what: str, _done: int, _total: int) -> None:
        """Hold the copy, however quick it is, until something was written beside it."""
        before, deadline = written, time.monotonic() + 20
        while written == before:
            assert time.monotonic() < deadline, "the copy holds up who writes"
            time.sleep(0.001)

    writing = asyncio.create_task(keep_writing())
    source = Source(gateway.folder, "gateway", gateway.folder / "swarm_hub.db")
    for number in range(5):
        made = await asyncio.to_thread(
            make_backup, source, tmp_path / f"{number}.tar", gateway.clock.time(), writes_go_on
        )
        assert made.problems == ()
    assert written >= 5, "progress is told while the database is copied"
    db_id = store.db_id
    writing.cancel()
    await asyncio.wait([writing])
    await swarm.stop(gateway)

    shutil.rmtree(gateway.folder)
    gateway.folder.mkdir()
    done = restore(made.path, gateway.folder)
    assert (done.manifest.db_id, done.replaced) == (db_id, None)
    hub = await bootstrap.start_hub(gateway.folder, gateway.clock)
    try:
        assert hub.store.db_id == db_id
        for job_id, dataset in zip(job_ids, datasets, strict=True):
            code, _ = await call(gateway, "GET", f"/jobs/{job_id}")
            assert code == 202
            rows = rows_of(
                gateway.folder / "swarm_hub.db",
                f"SELECT dataset_sha FROM jobs WHERE id = '{job_id}'",
            )
            assert await hub.store.blobs.get(rows[0][0]) == dataset
    finally:
        await hub.stop()


def test_every_file_of_a_hub_comes_back_and_is_private(
    old: Path, file: Path, tmp_path: Path
) -> None:
    before, origin = state_of(old), state_of(tmp_path / "new")
    done = restore(file, old)
    assert done.replaced is not None
    kept = state_of(done.replaced)
    after = {
        name: body
        for name, body in state_of(old).items()
        if not name.startswith(done.replaced.name)
    }
    assert kept == before
    assert rows_of(old / "swarm_hub.db", "SELECT sha FROM blobs ORDER BY sha") == rows_of(
        tmp_path / "new" / "swarm_hub.db", "SELECT sha FROM blobs ORDER BY sha"
    )
    del after["swarm_hub.db"], origin["swarm_hub.db"]
    assert after == origin
    for private in ("identity.key", "signer.key", "tokens.json", "admin.token"):
        assert (old / ".storage" / private).stat().st_mode & 0o077 == 0
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_wal_of_a_killed_hub_is_saved_and_moved_aside_with_its_database(
    old: Path, file: Path, tmp_path: Path
) -> None:
    pid = os.fork()
    if pid == 0:
        connection = sqlite3.connect(old / "swarm_hub.db")
        connection.execute("INSERT INTO meta VALUES ('in', 'wal')")
        connection.commit()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert (old / "swarm_hub.db-wal").stat().st_size
    again = restore(saved(old, tmp_path / "again.tar"), _empty(tmp_path / "again"))
    query = "SELECT value FROM meta WHERE key = 'in'"
    assert rows_of(tmp_path / "again" / "swarm_hub.db", query) == [("wal",)]
    assert again.replaced is None
    replaced = restore(file, old).replaced
    assert replaced is not None
    assert (replaced / "swarm_hub.db-wal").exists()
    assert not (old / "swarm_hub.db-wal").exists()
    assert rows_of(replaced / "swarm_hub.db", query) == [("wal",)]


def test_an_ordinary_tar_reads_a_backup_and_finds_the_manifest_first(file: Path) -> None:
    with tarfile.open(file) as tar:
        names = tar.getnames()
    assert names[0] == "manifest.json"
    assert {"config/configuration.yaml", "config/parts/mesh.yaml", "storage/signer.key"} <= {*names}
    assert "config/custom_components/lamp/lamp.txt" in names


def test_a_long_name_of_a_custom_component_comes_back(old: Path, tmp_path: Path) -> None:
    deep = old / "custom_components" / ("a" * 120) / ("b" * 120)
    deep.mkdir(parents=True)
    (deep / "ü.py").write_text("x = 1")
    restore(saved(old, tmp_path / "long.tar"), _empty(tmp_path / "fresh"))
    assert (tmp_path / "fresh" / deep.relative_to(old) / "ü.py").read_text() == "x = 1"


def test_a_hub_without_a_database_is_saved_as_it_is(old: Path, tmp_path: Path) -> None:
    source = Source(old, "kitchen", None)
    path = make_backup(source, tmp_path / "no-db.tar", NOW).path
    manifest = restore(path, _empty(tmp_path / "fresh")).manifest
    assert (manifest.database, manifest.db_id, manifest.schema) == (None, None, None)
    assert not (tmp_path / "fresh" / "swarm_hub.db").exists()
    assert (tmp_path / "fresh" / ".storage" / "signer.key").exists()


def test_a_database_below_the_directory_goes_back_to_where_it_was(
    old: Path, tmp_path: Path
) -> None:
    (old / "data").mkdir()
    for name in ("swarm_hub.db", "blobs"):
        (old / name).rename(old / "data" / name)
    source = Source(old, "kitchen", old / "data" / "swarm_hub.db")
    path = make_backup(source, tmp_path / "data.tar", NOW).path
    restore(path, _empty(tmp_path / "fresh"))
    assert (tmp_path / "fresh" / "data" / "swarm_hub.db").is_file()
    assert len(list((tmp_path / "fresh" / "data" / "blobs").rglob("*"))) == 2


def test_a_database_outside_of_the_directory_goes_where_the_configuration_says(
    old: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "var"
    outside.mkdir()
    for name in ("swarm_hub.db", "blobs"):
        (old / name).rename(outside / name)
    made = make_backup(Source(old, "k", outside / "swarm_hub.db"), tmp_path / "out.tar", NOW)
    before = state_of(outside)
    with pytest.raises(BackupError, match=r"whose `storage: url:` says where it goes"):
        restore(made.path, _empty(tmp_path / "fresh"))
    done = restore(made.path, old, database=outside / "swarm_hub.db")
    assert state_of(outside).keys() == before.keys()
    assert done.replaced is not None
    assert (done.replaced / "outside" / "swarm_hub.db").is_file()


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


# Blobs that are damaged, lost, or about to be deleted.


@pytest.mark.parametrize("damage", ["changed", "cut", "lost", "unreadable"])
def test_a_damaged_blob_is_named_and_the_rest_is_saved(
    old: Path, tmp_path: Path, damage: str
) -> None:
    asyncio.run(_filled(old, LARGER))
    (path,) = [each for each in (old / "blobs").rglob("*") if each.name == _sha(LARGE)]
    if damage == "lost":
        path.unlink()
    elif damage == "unreadable":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(LARGE[:-1] + (b"" if damage == "cut" else bytes([LARGE[-1] ^ 1])))
    made = make_backup(source_of(old), tmp_path / "file.tar", NOW)
    (problem,) = made.problems
    assert str(path) in problem
    restored = restore(made.path, _empty(tmp_path / "fresh"))
    assert restored.manifest.missing == (f"blobs/{_sha(LARGE)[:2]}/{_sha(LARGE)}",)
    assert [each.name for each in (tmp_path / "fresh" / "blobs").glob("??/*")] == [_sha(LARGER)]


def _sha(body: bytes) -> str:
    return archive.sha256_hex(body)


async def test_gc_during_a_backup_deletes_no_file_and_the_next_sweep_does(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configuration.yaml").write_text("gateway:\n")
    sha, row = await store.blobs.put(LARGE, 0)
    await store.commit([row])
    # As if it had been put long ago: otherwise it is protected for two minutes.
    store.blobs._files._touched.clear()
    path, loop = store.blobs.path(sha), asyncio.get_running_loop()
    os.utime(path, (0, 0))

    async def collect() -> None:
        assert await store.read(pruning.unused_blobs, "", 1, 10) == ([sha], None)
        await store.commit([pruning.drop_blobs([sha], 1)])
        await store.blobs.remove_files([sha])
        assert await store.blobs.sweep(sha[:2], set(), 60) == 0

    asked = False

    def between(what: str, _done: int, _total: int) -> None:
        nonlocal asked
        if what == "database" and not asked:
            asked = True
            asyncio.run_coroutine_threadsafe(collect(), loop).result(10)

    made = await asyncio.to_thread(
        make_backup, source_of(tmp_path), tmp_path / "b.tar", NOW, between
    )
    assert (asked, made.problems, path.is_file()) == (True, (), True)
    assert f"blobs/{sha[:2]}/{sha}" in [each.name for each in made.manifest.members]
    assert await store.blobs.sweep(sha[:2], set(), 60) == 1
    assert not path.exists()


def test_a_damaged_database_makes_no_backup(old: Path, tmp_path: Path) -> None:
    with (old / "swarm_hub.db").open("r+b") as database:
        database.seek(2 * 4096)
        database.write(b"\xff" * 4096)
    with pytest.raises(BackupError, match=r"swarm_hub\.db: the database is damaged"):
        saved(old, tmp_path / "file.tar")
    assert not list(tmp_path.glob("*file*"))


def test_a_full_disk_is_one_clear_error_that_leaves_nothing(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BackupError, match=r"can't be written \(No space left on device\)"):
        make_backup(source_of(old), tmp_path / "to" / "file.tar", NOW)
    assert list((tmp_path / "to").iterdir() if (tmp_path / "to").exists() else ()) == []


def test_an_existing_file_is_never_overwritten(old: Path, tmp_path: Path) -> None:
    (tmp_path / "file.tar").write_text("mine")
    with pytest.raises(BackupError, match="exists already"):
        saved(old, tmp_path / "file.tar")
    assert (tmp_path / "file.tar").read_text() == "mine"


# Refusals.


def manifest_of(path: Path) -> BackupManifest:
    return read_manifest(path)


EVIL_NAMES = [
    "/etc/passwd", "config//etc/x.yaml", "config/../x.yaml", "config/a/../../x.yaml", "config/",
    "config/.storage/hub.yaml", "config/.bashrc", "config/run.sh", "config/custom_components",
    "config/custom_components/../../x", "storage/../x.key", "storage/hub.lock", "storage/a/b.key",
    "storage/restore.json", "blobs/ab/abc", "blobs/" + "ab/" + "cd" * 32, "database/other.db",
    "manifest.json", "other/x", "", "config/a\n.yaml", "config/\x00.yaml", "config/a/./b.yaml",
]  # fmt: skip


@pytest.mark.parametrize("name", EVIL_NAMES)
def test_a_name_that_has_no_place_in_a_hub_is_refused(old: Path, tmp_path: Path, name: str) -> None:
    path = forged(tmp_path / "evil.tar", lambda m: m, {**CONFIG, name: b"x"})
    refused(path, old, "has no place in a hub" if name.isprintable() else "a line of text")


def has_database(place: str) -> Callable[[BackupManifest], BackupManifest]:
    return lambda manifest: replace(manifest, database=place)


REFUSED: list[tuple[str, Callable[[BackupManifest], BackupManifest], dict[str, bytes]]] = [
    (r"the backup has format 2 \(of swarm_hub '0\.1\.0'\)", lambda m: replace(m, format=2), {}),
    (rf"schema {SCHEMA_VERSION + 1} \(of swarm_hub 9\.9\), this swarm_hub knows up to "
     rf"{SCHEMA_VERSION}", lambda m: replace(m, schema=SCHEMA_VERSION + 1, version="9.9",
                                            database="swarm_hub.db"),
     {"database/swarm_hub.db": b"x"}),
    ("the database in the backup is damaged", has_database("swarm_hub.db"),
     {"database/swarm_hub.db": b"not a database"}),
    ("nothing may be put at", has_database("../hub.db"), {"database/swarm_hub.db": b"x"}),
    ("nothing may be put at", has_database(".storage/hub.lock"), {"database/swarm_hub.db": b"x"}),
    ("nothing may be put at", has_database("replaced.x/hub.db"), {"database/swarm_hub.db": b"x"}),
    ("nothing may be put at", has_database("secrets.yaml/hub.db"),
     {"database/swarm_hub.db": b"x", "config/secrets.yaml": b""}),
    (r"expected one configuration\.yaml", has_database("configuration.yaml"),
     {"database/swarm_hub.db": b"x"}),
    ("was outside of its configuration directory", has_database("/etc/passwd"),
     {"database/swarm_hub.db": b"x"}),
    ("only in the list", has_database("swarm_hub.db"), {}),
    ("only in the list", lambda m: m, {"database/swarm_hub.db": b"x"}),
    ("blobs without a database", lambda m: m,
     {f"blobs/{_sha(b'x')[:2]}/{_sha(b'x')}": b"x"}),
    ("the hash of something else", has_database("swarm_hub.db"),
     {"database/swarm_hub.db": b"x", f"blobs/{_sha(b'y')[:2]}/{_sha(b'y')}": b"x"}),
    ("there twice", lambda m: replace(m, members=(*m.members, *m.members)), {}),
    ("expected a whole number", lambda m: replace(m, members=(Member("x", -1, "x"),)), {}),
    ("expected a line of text", lambda m: replace(m, hub="a\nb"), {}),
    ("another hash than the manifest says",
     lambda m: replace(m, members=tuple(replace(e, sha256="0" * 64) for e in m.members)), {}),
    ("expected [0-9]+ bytes, found",
     lambda m: replace(m, members=tuple(replace(e, size_bytes=1000) for e in m.members)), {}),
    ("is larger than",
     lambda m: replace(m, members=tuple(replace(e, size_bytes=10**12) for e in m.members)), {}),
]  # fmt: skip


@pytest.mark.parametrize(("said", "change", "more"), REFUSED)
def test_a_backup_that_says_what_can_not_be_is_refused(
    old: Path,
    tmp_path: Path,
    said: str,
    change: Callable[[BackupManifest], BackupManifest],
    more: dict[str, bytes],
) -> None:
    refused(forged(tmp_path / "evil.tar", change, {**CONFIG, **more}), old, said)


def test_a_backup_without_a_configuration_is_refused(old: Path, tmp_path: Path) -> None:
    path = forged(tmp_path / "evil.tar", lambda m: m, {"storage/signer.key": b"x" * 32})
    refused(path, old, r"expected one configuration\.yaml")


@pytest.mark.parametrize("kind", ["link", "symlink", "device", "directory", "sparse"])
def test_a_link_a_device_and_the_like_are_refused(
    old: Path, file: Path, tmp_path: Path, kind: str
) -> None:
    kinds = {
        "link": tarfile.LNKTYPE, "symlink": tarfile.SYMTYPE, "device": tarfile.CHRTYPE,
        "directory": tarfile.DIRTYPE, "sparse": tarfile.GNUTYPE_SPARSE,
    }  # fmt: skip
    with tarfile.open(file) as tar:
        offset = tar.getmember("config/secrets.yaml").offset
    body = bytearray(file.read_bytes())
    info = tarfile.TarInfo("config/secrets.yaml")
    info.type, info.linkname, info.size = kinds[kind], "/etc/passwd", 12
    body[offset : offset + 512] = info.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "evil.tar").write_bytes(body)
    refused(tmp_path / "evil.tar", old, "is damaged or was changed")


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * 1024, b"x" * 2048, b"SQLite format 3\0"])
def test_a_file_that_is_no_backup_is_refused(old: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "no.tar").write_bytes(content)
    refused(tmp_path / "no.tar", old, "this is not a backup of a hub")


def test_an_ordinary_tar_a_pipe_and_nothing_are_refused(old: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "plain.tar", "w") as tar:
        tar.add(old / "configuration.yaml", "configuration.yaml")
    refused(tmp_path / "plain.tar", old, "this is not a backup of a hub")
    os.mkfifo(tmp_path / "pipe.tar")
    refused(tmp_path / "pipe.tar", old, "expected the file of a backup")
    refused(tmp_path / "none.tar", old, "expected the file of a backup")


def test_a_directory_that_is_not_a_hubs_is_refused(file: Path, tmp_path: Path) -> None:
    folder = _empty(tmp_path / "photos")
    (folder / "cat.jpg").write_bytes(b"cat")
    refused(file, folder, "neither empty nor a hub's")


def test_a_disk_without_room_is_refused_before_anything_is_written(
    old: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(old)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    refused(file, old, "the disk has 1000 free")


def test_a_file_where_a_directory_must_be_is_refused_before_anything_moves(
    old: Path, file: Path
) -> None:
    shutil.rmtree(old / "parts")
    (old / "parts").write_text("a file")
    refused(file, old, r"parts/mesh\.yaml: can't be replaced")


def refused(path: Path, folder: Path, said: str) -> None:
    """Assert that restoring changes nothing and names the file or the directory."""
    before = state_of(folder)
    with pytest.raises(BackupError, match=said):
        restore(path, folder)
    assert state_of(folder) == before
    assert not list((folder / ".storage").glob("restore*"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A directory and the bytes of a small backup, for many tampered copies."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "configuration.yaml").write_text("gateway:\n")
    (folder / ".storage").mkdir()
    (folder / ".storage" / "signer.key").write_bytes(b"k" * 32)
    asyncio.run(_filled(folder, LARGE))
    made = make_backup(source_of(folder), folder.with_name("small.tar"), NOW).path
    return folder, made.read_bytes()


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_backup_with_any_byte_changed_cut_or_added_is_refused(
    small: tuple[Path, bytes], data: st.DataObject
) -> None:
    folder, whole = small
    position = data.draw(st.integers(0, len(whole) - 1))
    how = data.draw(st.sampled_from(["flip", "cut", "insert", "drop", "append", "block"]))
    changed = {
        "flip": whole[:position] + bytes([whole[position] ^ 0x40]) + whole[position + 1 :],
        "cut": whole[:position],
        "insert": whole[:position] + b"x" + whole[position:],
        "drop": whole[:position] + whole[position + 1 :],
        "append": whole + b"\0" * 512,
        "block": whole[: position // 512 * 512] + whole[position // 512 * 512 + 512 :],
    }[how]
    path = folder.with_name("changed.tar")
    path.write_bytes(changed)
    refused(path, folder, "backup")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(max_size=60), body=st.binary(max_size=20))
@example(name="config/\ud800.yaml", body=b"")
def test_whatever_name_a_member_has_nothing_is_written_outside(
    small: tuple[Path, bytes], name: str, body: bytes
) -> None:
    problem = archive.member_problem(f"config/{name}")
    if problem is None:
        assert not {"", ".", "..", ".storage"} & set(name.split("/"))
        assert os.path.normpath(name) == name
    assert archive.member_problem(name) is not None or name.split("/")[0] in (
        "config", "storage", "blobs", "database",
    )  # fmt: skip


# Kills.


async def started_and_stopped(folder: Path, step: int = 0) -> str:
    """Start the hub of a directory; returns the id of its database.

    Of many starts every fifth is a whole one, the others go as far as the open store.
    """
    if step % 5 == 0:
        hub = await bootstrap.start_hub(folder)
        await hub.stop()
        return hub.store.db_id
    finish_restore(folder)
    configuration, _ = bootstrap.check(folder)
    store = Store.on_file(configuration.storage.path(folder), Clock())
    await store.open()
    await store.close()
    return store.db_id


@pytest.mark.timeout(400)  # some ninety kills and starts
@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.nightly), 4])
def test_a_restore_killed_at_any_step_leaves_the_old_hub_or_the_new_one_whole(
    file: Path, tmp_path: Path, every: int
) -> None:
    """A kill at each step; script/test has every fourth, beginning anywhere."""
    template = make_hub(tmp_path / "template", "old", LARGE)
    ids = {"new": read_manifest(file).db_id}
    ids["old"] = rows_of(template / "swarm_hub.db", "SELECT value FROM meta WHERE key = 'db_id'")[
        0
    ][0]
    seen, step, killed = [], random.randrange(every), True
    while killed:
        folder = tmp_path / f"killed-{step}"
        shutil.copytree(template, folder)
        killed = killed_at(step, lambda folder=folder: restore(file, folder))  # type: ignore[misc]
        db_id = asyncio.run(started_and_stopped(folder, step))
        mark = "new" if db_id == ids["new"] else "old"
        assert db_id == ids[mark]
        assert_is(folder, mark)
        if mark == "new":
            (replaced,) = folder.glob("replaced.*")
            assert_is(replaced, "old")
        else:
            assert not list(folder.glob("replaced.*"))
        assert not list((folder / ".storage").glob("restore*"))
        seen.append(mark)
        shutil.rmtree(folder)
        step += every
    # First all old, then all new, and kills of both kinds were met.
    assert seen == sorted(seen, reverse=True)
    assert (seen.count("old") > 5 // every, seen.count("new") > 20 // every) == (True, True)


def assert_is(folder: Path, mark: str) -> None:
    """Assert that a directory is one hub and no mixture."""
    for name in (
        "configuration.yaml", "parts/mesh.yaml", "secrets.yaml", ".storage/signer.key",
        ".storage/identity.key", ".storage/admin.token", "custom_components/lamp/lamp.txt",
    ):  # fmt: skip
        assert mark in (folder / name).read_text(), name
    files = {path.name for path in (folder / "blobs").glob("??/*")}
    rows = rows_of(folder / "swarm_hub.db", "SELECT sha FROM blobs WHERE body IS NULL")
    assert files == {sha for (sha,) in rows} == {_sha(LARGER if mark == "new" else LARGE)}


def test_a_restore_killed_again_while_it_is_finished_still_ends(
    old: Path, file: Path, tmp_path: Path
) -> None:
    step = 0
    while not (old / RESTORE_FILE).exists():
        assert killed_at(step, lambda: restore(file, old))
        step += 1
    # Each run is killed one step later than the last one.
    steps = 1
    while killed_at(steps, lambda: finish_restore(old)):
        steps += 1
    assert_is(old, "new")
    assert finish_restore(old) is False


def test_what_was_made_between_a_kill_and_the_next_start_is_kept(old: Path, file: Path) -> None:
    step = 0
    while not (old / RESTORE_FILE).exists():
        assert killed_at(step, lambda: restore(file, old))
        step += 1
    steps = 0
    while (old / "configuration.yaml").exists():
        assert killed_at(steps, lambda: finish_restore(old))
        steps += 1
    (old / "configuration.yaml").write_text("# made by hand\n")
    assert finish_restore(old)
    assert_is(old, "new")
    (replaced,) = old.glob("replaced.*")
    (kept,) = replaced.glob("configuration.yaml.*")
    assert kept.read_text() == "# made by hand\n"


def test_a_backup_killed_at_any_step_is_whole_or_leaves_only_what_the_next_removes(
    old: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "backups"
    step, killed = 0, True
    while killed:
        target = folder / f"{step}.tar"
        killed = killed_at(step, lambda target=target: saved(old, target))  # type: ignore[misc]
        if target.exists():
            manifest_of(target)
        step += 1
    assert step > 4
    before = {path.name for path in folder.iterdir() if path.name.startswith(".")}
    assert before == set()
    assert asyncio.run(started_and_stopped(old))


def test_what_a_killed_backup_left_goes_and_what_one_is_writing_stays(
    old: Path, tmp_path: Path
) -> None:
    folder = _empty(tmp_path / "backups")
    left = folder / ".swarm-hub-01M8ZZZZZZZZZZZZZZZZZZZZZZ.partial"
    left.write_bytes(b"half")
    (folder / f"{left.name}.db").write_bytes(b"half")
    (folder / ".mine.partial").write_bytes(b"")
    with backup_module._partial_file(folder) as (_, partial):
        saved(old, folder / "one.tar")
        assert {path.name for path in folder.iterdir()} == {
            "one.tar", ".mine.partial", partial.name,
        }  # fmt: skip
    assert not partial.exists()


# Names and the schedule.


def test_the_newest_backup_is_the_one_of_the_latest_time_in_its_name(tmp_path: Path) -> None:
    assert newest_backup(tmp_path / "none") is None
    assert newest_backup(tmp_path) is None
    names = [new_file(tmp_path, "a-b", NOW + offset).name for offset in (0, 86_400, 10)]
    for name in (*names, "swarm-hub-a-b-99999999T999999Z.tar", "other.tar", "swarm-hub-x.tar"):
        (tmp_path / name).write_text("")
    newest = newest_backup(tmp_path)
    assert newest is not None
    assert newest.name == names[1]
    later = new_file(tmp_path, "a-b", NOW + 86_400)
    assert later.name == names[1].replace(".tar", "-2.tar")
    later.write_text("")
    assert newest_backup(tmp_path, "a-b") == later
    assert newest_backup(tmp_path, "b") is None
    other = new_file(tmp_path, "k/ü", NOW + 2 * 86_400)
    other.write_text("")
    assert (newest_backup(tmp_path, "a-b"), newest_backup(tmp_path)) == (later, other)
    assert newest_backup(tmp_path, "k/ü") == other


def schedule_of(folder: Path, clock: Clock, keep: int = 2) -> BackupSchedule:
    return BackupSchedule(source_of(folder), folder / "backups", 3600, keep, clock)


async def test_a_backup_is_due_some_time_after_the_newest_one_also_after_a_restart(
    store: Store, tmp_path: Path
) -> None:
    (tmp_path / "configuration.yaml").write_text("gateway:\n")
    clock = MovableClock()
    made = []
    # A new schedule each time, as after a restart; a look each 25 minutes.
    for _ in range(12):
        await schedule_of(tmp_path, clock, keep=50).look()
        made.append(len(backups(tmp_path / "backups")))
        clock.offset_s += 1500
    assert made == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]


async def test_only_the_newest_of_its_own_are_kept_and_nothing_else_is_touched(
    store: Store, tmp_path: Path
) -> None:
    (tmp_path / "configuration.yaml").write_text("gateway:\n")
    clock, folder = MovableClock(), tmp_path / "backups"
    folder.mkdir()
    others = {
        "swarm-hub-other-20200101T000000Z-scheduled.tar", "notes.tar",
        "swarm-hub-kitchen-20200101T000000Z.tar",
    }  # fmt: skip
    for name in others:
        (folder / name).write_text("")
    for _ in range(4):
        await schedule_of(tmp_path, clock).look()
        clock.offset_s += 3600
    names = {path.name for path in folder.iterdir()}
    assert others < names
    assert len(names - others) == 2
    newest = newest_backup(folder, "kitchen")
    assert newest is not None
    restore(newest, _empty(tmp_path / "fresh"))


async def test_a_failure_is_logged_once_and_old_backups_stay(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "configuration.yaml").write_text("gateway:\n")
    clock = MovableClock()
    schedule = schedule_of(tmp_path, clock, keep=1)
    await schedule.look()
    clock.offset_s += 3600
    (tmp_path / "configuration.yaml").rename(tmp_path / "away")
    for _ in range(3):
        await schedule.look()
    errors = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "there is no configuration.yaml" in errors[0].getMessage()
    (tmp_path / "away").rename(tmp_path / "configuration.yaml")
    await schedule.look()
    assert len(backups(tmp_path / "backups")) == 1


async def test_the_newest_whole_backup_stays_while_later_ones_lack_a_file(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "configuration.yaml").write_text("gateway:\n")
    clock, folder = MovableClock(), tmp_path / "backups"
    schedule = schedule_of(tmp_path, clock)
    for _ in range(2):
        await schedule.look()
        clock.offset_s += 3600
    whole = newest_backup(folder)
    sha, row = await store.blobs.put(LARGE, time.time())
    await store.commit([row])
    store.blobs.path(sha).unlink()
    for _ in range(4):
        await schedule.look()
        clock.offset_s += 3600
    assert len(backups(folder)) == 3
    assert backups(folder)[-1].path == whole
    assert len([each for each in caplog.records if "lacks files" in each.getMessage()]) == 1
    await store.blobs.put(LARGE, time.time())
    await schedule.look()
    assert len(backups(folder)) == 2


@pytest.mark.parametrize("name", ["a\n.yaml", "custom_components/\udcff.py"])
def test_a_name_that_can_not_be_kept_is_told_and_the_rest_is_saved(
    old: Path, tmp_path: Path, name: str
) -> None:
    (old / name).write_text("")
    made = make_backup(source_of(old), tmp_path / "file.tar", NOW)
    (problem,) = made.problems
    assert problem.isprintable()
    assert "its name can't be kept" in problem
    restored = restore(made.path, _empty(tmp_path / "fresh"))
    assert restored.manifest.missing == (
        "config/" + name.replace("\n", "?").replace("\udcff", "?"),
    )


def test_a_component_behind_a_link_is_told_and_the_link_is_moved_aside(
    old: Path, file: Path, tmp_path: Path
) -> None:
    (old / "custom_components").rename(tmp_path / "elsewhere")
    (old / "custom_components").symlink_to(tmp_path / "elsewhere")
    made = make_backup(source_of(old), tmp_path / "file.tar", NOW)
    assert [problem.endswith("a link to elsewhere") for problem in made.problems] == [True]
    replaced = restore(file, old).replaced
    assert replaced is not None
    assert (replaced / "custom_components").is_symlink()
    assert (old / "custom_components" / "lamp" / "lamp.txt").read_text() == "new"
    assert (tmp_path / "elsewhere" / "lamp" / "lamp.txt").read_text() == "old"


async def test_a_hub_that_stops_ends_its_backup(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configuration.yaml").write_text("gateway:\n")
    began, ended = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def endless(_source: Source, _target: Path, _now: float, progress: Any) -> None:
        loop.call_soon_threadsafe(began.set)
        try:
            while True:
                progress("files", 0, 1)
        finally:
            loop.call_soon_threadsafe(ended.set)

    monkeypatch.setattr("swarm_hub.storage.backup.schedule.make_backup", endless)
    looking = asyncio.create_task(schedule_of(tmp_path, Clock()).look())
    await began.wait()
    looking.cancel()
    async with asyncio.timeout(30):
        await ended.wait()
    assert looking.cancelled() or looking.cancelling()
    with pytest.raises(asyncio.CancelledError):
        await looking


async def test_a_hub_with_backups_configured_makes_them(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarm_hub.storage.backup.schedule.LOOK_EVERY_S", 0.01)
    gateway = await swarm.gateway(
        extra="storage: {backup: {every: 1h, keep: 3, directory: safe}}\n"
    )

    async def count() -> int:
        return len(backups(gateway.folder / "safe", "gateway"))

    await until(count, lambda found: found == 1)
    gateway.clock.offset_s += 3600
    await until(count, lambda found: found == 2)
    assert manifest_of(backups(gateway.folder / "safe")[0].path).db_id == gateway.hub.store.db_id


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ("storage:\n  backup:\n    evry: 24h\n",
         "configuration.yaml:3: storage → backup → evry: unknown key; did you mean every?"),
        ("storage:\n  backup:\n    keep: 0\n",
         "configuration.yaml:3: storage → backup → keep: expected a whole number from 1 to 10000, "
         "got 0"),
        ("storage:\n  backup:\n    every: 0\n",
         "configuration.yaml:3: storage → backup → every: expected a duration above 0"),
        ("storage:\n  backup: {directory: 5}\n",
         "configuration.yaml:2: storage → backup → directory: expected text"),
        ("storage:\n  backup: daily\n",
         "configuration.yaml:2: storage → backup: expected keys and values below it, each on its "
         "own line"),
    ],
)  # fmt: skip
def test_a_mistake_in_its_configuration_is_named_with_its_line(
    tmp_path: Path, yaml: str, said: str
) -> None:
    (tmp_path / "configuration.yaml").write_text(yaml)
    assert said in [str(each) for each in read_configuration(tmp_path, "hub").problems]


def test_no_backup_is_scheduled_unless_the_key_is_there(tmp_path: Path) -> None:
    (tmp_path / "configuration.yaml").write_text("gateway:\n")
    assert read_configuration(tmp_path, "hub").storage.backup is None
    (tmp_path / "configuration.yaml").write_text("storage:\n  backup:\n")
    backup = read_configuration(tmp_path, "hub").storage.backup
    assert backup is not None
    assert (backup.every_s, backup.keep, backup.directory) == (86_400, 7, "backups")
