"""Makes one file of a hub: its database, blobs, keys, tokens and configuration.

The database is copied on one read transaction, so a hub that keeps writing neither waits nor makes
the copy start over; the snapshot's own rows say which blobs belong to it.
"""

import fcntl
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from ulid_transform import ulid_now

from swarm_hub.const import CONFIG_FILE, CUSTOM_COMPONENTS_DIR, STORAGE_DIR
from swarm_hub.exceptions import BackupError
from swarm_hub.storage.backup.archive import (
    BLOBS_PREFIX,
    CONFIG_PREFIX,
    DATABASE_MEMBER,
    SMALL_MAX_BYTES,
    STORAGE_PREFIX,
    ArchiveReader,
    ArchiveWriter,
    BackupManifest,
    Member,
    Progress,
    ignore_progress,
    member_problem,
    read_chunks,
    relative_problem,
)
from swarm_hub.storage.backup.hub_files import BLOBS_DIR, configuration_files, private_files
from swarm_hub.storage.backup.lock import files_kept
from swarm_hub.storage.backup.sealed import seal
from swarm_hub.storage.backup.snapshot import Snapshot, take_snapshot
from swarm_hub.util.clock import isoformat
from swarm_hub.util.files import exclusive, sync_directory

_TIME: Final = "%Y%m%dT%H%M%SZ"
_FILE_NAME: Final = re.compile(
    r"swarm-hub-(?P<hub>.+)-(?P<time>\d{8}T\d{6}Z)(?P<scheduled>-scheduled)?(?:-(?P<n>\d{1,6}))?\.tar",
    re.ASCII,
)
_PARTIAL_NAME: Final = re.compile(r"\.swarm-hub-[0-9A-Z]{26}\.partial", re.ASCII)
# The folder in `.storage` where a backup is made that is sealed afterwards.
_SEALING: Final = "sealing"
_UNSAFE_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Source:
    """What is saved; `database` is None if the store isn't a file."""

    config_dir: Path
    hub: str
    database: Path | None


@dataclass(frozen=True, slots=True)
class Backup:
    """A finished backup; each of its `problems` names a file that could not be saved."""

    path: Path
    size_bytes: int
    manifest: BackupManifest
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BackupFile:
    """A file that is named like a backup."""

    path: Path
    hub: str
    time_s: float
    number: int
    scheduled: bool


@dataclass(frozen=True, slots=True)
class _Gap:
    """A file that could not be saved."""

    name: str
    problem: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file to be saved; a blob's size and hash are known beforehand."""

    name: str
    path: Path
    size_bytes: int | None = None
    sha256: str | None = None


def make_backup(
    source: Source, target: Path, now: float, progress: Progress = ignore_progress
) -> Backup:
    """Save a hub to the new file `target`; it may run meanwhile, in this process or another.

    What `progress` raises ends the backup. Raises BackupError when nothing was saved.
    """
    if not (source.config_dir / CONFIG_FILE).is_file():
        raise BackupError(f"{source.config_dir}: there is no {CONFIG_FILE}; expected a hub's")
    if os.path.lexists(target):
        raise BackupError(f"{target} exists already; name another file with --to")
    try:
        _make_folder(target.parent)
        remove_leftovers(target.parent)
        return _make(source, target, now, progress)
    except OSError as error:
        raise BackupError(
            f"{target}: the backup can't be written ({error.strerror}); check that its directory "
            "is writable and has free space for twice the database and its blobs"
        ) from error
    except sqlite3.Error as error:
        raise BackupError(f"{source.database}: the database can't be read ({error})") from error


def make_sealed_backup(
    source: Source,
    target: Path,
    now: float,
    passphrase: str,
    progress: Progress = ignore_progress,
) -> Backup:
    """Save a hub to the new file `target`, sealed; see `make_backup`.

    What is not sealed yet stays beside the keys that are in it, and never reaches another disk.
    """
    if os.path.lexists(target):
        raise BackupError(f"{target} exists already; name another file with --to")
    folder = source.config_dir / STORAGE_DIR / _SEALING
    storage = source.config_dir / STORAGE_DIR
    with exclusive(storage / f"{_SEALING}.lock"):
        shutil.rmtree(folder, ignore_errors=True)
        try:
            made = make_backup(source, folder / "backup.tar", now, progress)
            _make_folder(target.parent)
            remove_leftovers(target.parent)
            with _partial_file(target.parent) as (file, partial):
                seal(made.path, file, passphrase)
                file.flush()
                os.fsync(file.fileno())
                size_bytes = os.fstat(file.fileno()).st_size
                partial.rename(target)
            sync_directory(target.parent)
            return replace(made, path=target, size_bytes=size_bytes)
        except OSError as error:
            raise BackupError(
                f"{target}: the backup can't be written ({error.strerror}); check that its "
                "directory is writable and has free space"
            ) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def new_file(directory: Path, hub: str, now: float, *, scheduled: bool = False) -> Path:
    """Return an unused file name for a backup of that hub in `directory`."""
    made = datetime.fromtimestamp(now, UTC).strftime(_TIME)
    stem = f"swarm-hub-{_file_part(hub)}-{made}{'-scheduled' if scheduled else ''}"
    path, number = directory / f"{stem}.tar", 1
    while os.path.lexists(path):
        number += 1
        path = directory / f"{stem}-{number}.tar"
    return path


def backups(directory: Path, hub: str | None = None) -> list[BackupFile]:
    """Return the backups in `directory`, by their names, newest first; of one hub or of all."""
    found = []
    for path in directory.iterdir() if directory.is_dir() else ():
        match = _FILE_NAME.fullmatch(path.name)
        if match is None or (hub is not None and match["hub"] != _file_part(hub)):
            continue
        try:
            made = datetime.strptime(match["time"], _TIME).replace(tzinfo=UTC).timestamp()
        except ValueError:
            continue
        number = int(match["n"] or 1)
        found.append(BackupFile(path, match["hub"], made, number, match["scheduled"] is not None))
    return sorted(found, key=lambda each: (each.time_s, each.number, each.path.name), reverse=True)


def newest_backup(directory: Path, hub: str | None = None) -> Path | None:
    """Return the newest backup in `directory`, or None; of one hub or of any."""
    found = backups(directory, hub)
    return found[0].path if found else None


def remove_leftovers(directory: Path) -> None:
    """Delete what killed backups left behind; those still being written are locked."""
    for path in directory.iterdir():
        if not _PARTIAL_NAME.fullmatch(path.name):
            continue
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove_partial(path)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)


def _make(source: Source, target: Path, now: float, progress: Progress) -> Backup:
    with ExitStack() as stack:
        file, partial = stack.enter_context(_partial_file(target.parent))
        snapshot = None
        if source.database is not None and source.database.exists():
            # Taken before the snapshot: from here on no file that the snapshot names can be
            # deleted.
            stack.enter_context(files_kept(source.database.parent))
            snapshot = take_snapshot(source.database, _database_of(partial), progress)
        manifest, problems = _write(source, snapshot, file, now, progress)
        file.flush()
        os.fsync(file.fileno())
        # A file that could not be restored must not count as a backup.
        file.seek(0)
        ArchiveReader(file, partial)
        _database_of(partial).unlink(missing_ok=True)
        size_bytes = os.fstat(file.fileno()).st_size
        partial.rename(target)
        sync_directory(target.parent)
    return Backup(target, size_bytes, manifest, tuple(problems))


def _write(
    source: Source, snapshot: Snapshot | None, file: BinaryIO, now: float, progress: Progress
) -> tuple[BackupManifest, list[str]]:
    entries, gaps = _entries(source, snapshot)
    names = [each.name for each in gaps]
    most = _manifest(source, snapshot, now, [_largest(each) for each in entries], names)
    # Room for the manifest as if every file were saved and had the largest possible size.
    writer = ArchiveWriter(file, int(now), len(most.to_json()))
    total = sum(each.size_bytes or 0 for each in entries)
    members, done = [], 0
    for entry in entries:
        try:
            members.append(_add(writer, entry))
        except BackupError as error:
            if entry.name in (DATABASE_MEMBER, f"{CONFIG_PREFIX}{CONFIG_FILE}"):
                raise BackupError(f"{entry.path}: not saved: {error}; no backup was made") from None
            gaps.append(_Gap(entry.name, f"{entry.path}: not saved: {error}"))
        done += entry.size_bytes or 0
        progress("files", done, total)
    manifest = _manifest(source, snapshot, now, members, [each.name for each in gaps])
    writer.finish(manifest)
    return manifest, [each.problem for each in gaps]


def _entries(source: Source, snapshot: Snapshot | None) -> tuple[list[_Entry], list[_Gap]]:
    """Return what is to be saved, and what is already known to be impossible to save."""
    entries, gaps = [], []
    for entry in _everything(source, snapshot):
        if member_problem(entry.name) is None:
            entries.append(entry)
        else:
            shown = _printable(str(entry.path))
            gaps.append(_Gap(_printable(entry.name), f"{shown}: not saved: its name can't be kept"))
    custom = source.config_dir / CUSTOM_COMPONENTS_DIR
    if custom.is_symlink():
        name = f"{CONFIG_PREFIX}{CUSTOM_COMPONENTS_DIR}"
        gaps.append(_Gap(name, f"{custom}: not saved: it is a link to elsewhere"))
    return entries, gaps


def _everything(source: Source, snapshot: Snapshot | None) -> Iterator[_Entry]:
    root = source.config_dir
    for name in configuration_files(root):
        if not _FILE_NAME.fullmatch(Path(name).name):
            yield _Entry(f"{CONFIG_PREFIX}{name}", root / name)
    for name in private_files(root):
        yield _Entry(f"{STORAGE_PREFIX}{name}", root / STORAGE_DIR / name)
    if snapshot is None or source.database is None:
        return
    yield _Entry(DATABASE_MEMBER, snapshot.path, snapshot.path.stat().st_size)
    blobs = source.database.parent / BLOBS_DIR
    for sha, size_bytes in snapshot.blobs:
        yield _Entry(f"{BLOBS_PREFIX}{sha[:2]}/{sha}", blobs / sha[:2] / sha, size_bytes, sha)


def _add(writer: ArchiveWriter, entry: _Entry) -> Member:
    try:
        file = entry.path.open("rb")
    except FileNotFoundError:
        raise BackupError("it is missing") from None
    except OSError as error:
        raise BackupError(f"it can't be read ({error.strerror})") from error
    with file:
        size_bytes = entry.size_bytes
        if size_bytes is None:
            size_bytes = os.fstat(file.fileno()).st_size
            if size_bytes > SMALL_MAX_BYTES:
                raise BackupError(f"it is larger than {SMALL_MAX_BYTES} bytes")
        return writer.add(entry.name, size_bytes, _readable(file), entry.sha256)


def _readable(file: BinaryIO) -> Iterator[bytes]:
    """Yield the file's bytes; a disk that can't read them is the file's problem alone."""
    chunks = read_chunks(file)
    while True:
        try:
            chunk = next(chunks, None)
        except OSError as error:
            raise BackupError(f"it can't be read ({error.strerror})") from error
        if chunk is None:
            return
        yield chunk


def _largest(entry: _Entry) -> Member:
    return Member(entry.name, SMALL_MAX_BYTES if entry.size_bytes is None else entry.size_bytes,
                  "0" * 64)  # fmt: skip


def _manifest(
    source: Source,
    snapshot: Snapshot | None,
    now: float,
    members: list[Member],
    missing: list[str],
) -> BackupManifest:
    database = None
    if snapshot is not None and source.database is not None:
        database = _relative(source.database, source.config_dir)
    return BackupManifest(
        hub=_printable(source.hub),
        time=isoformat(now),
        db_id=snapshot.db_id if snapshot else None,
        schema=snapshot.schema if snapshot else None,
        database=database,
        members=tuple(members),
        missing=tuple(missing),
    )


def _relative(database: Path, config_dir: Path) -> str:
    path = Path(os.path.abspath(database))
    root = Path(os.path.abspath(config_dir))
    if not path.is_relative_to(root):
        return path.as_posix()
    relative = path.relative_to(root).as_posix()
    problem = relative_problem(relative)
    if problem is not None:
        raise BackupError(f"{database}: {problem}; give the database another name")
    return relative


@contextmanager
def _partial_file(directory: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Make a locked temporary file, which is deleted at the end unless it was renamed."""
    while True:
        path = directory / f".swarm-hub-{ulid_now()}.partial"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Another backup may have taken it for a leftover before it was locked.
        if os.fstat(descriptor).st_nlink:
            break
        os.close(descriptor)
    with os.fdopen(descriptor, "r+b") as file:
        try:
            yield file, path
        finally:
            _remove_partial(path)


def _remove_partial(partial: Path) -> None:
    database = _database_of(partial)
    database.unlink(missing_ok=True)
    database.with_name(f"{database.name}-journal").unlink(missing_ok=True)
    partial.unlink(missing_ok=True)


def _database_of(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.db")


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True)
        sync_directory(folder.parent)


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)


def _file_part(hub: str) -> str:
    return _UNSAFE_IN_NAMES.sub("_", hub)
