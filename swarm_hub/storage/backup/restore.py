"""Restores a hub from a backup: staged and checked first, then moved into place by renames.

The list of renames is on disk before the first of them. A restore that is killed before that has
changed nothing; one that is killed later is completed by `finish_restore`. Whatever stood in the
way is moved to `replaced.<time>/`; nothing of the user's is deleted. It is long because each step
stands beside what undoes or completes it.
"""

import json
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ulid_transform import ulid_now

from swarm_hub.const import (
    BACKUP_LOCK_FILE,
    CONFIG_FILE,
    CUSTOM_COMPONENTS_DIR,
    LOCK_FILE,
    RESTORE_FILE,
    STORAGE_DIR,
)
from swarm_hub.exceptions import BackupError
from swarm_hub.storage.backup.archive import (
    BLOBS_PREFIX,
    CONFIG_PREFIX,
    DATABASE_MEMBER,
    STORAGE_PREFIX,
    ArchiveReader,
    BackupManifest,
    Progress,
    ignore_progress,
    opened,
    relative_problem,
)
from swarm_hub.storage.backup.carried_over import (
    carry_over_files,
    carry_over_rows,
    returning_tokens,
)
from swarm_hub.storage.backup.hub_files import (
    BLOBS_DIR,
    REPLACED_PREFIX,
    beside,
    holds_hub,
    in_the_way,
)
from swarm_hub.storage.backup.sealed import unseal
from swarm_hub.storage.backup.snapshot import (
    database_id_of,
    open_snapshot,
    schema_of,
    snapshot_problem,
)
from swarm_hub.storage.backup.unfinished import RestorePlan, finish_restore, kept_as
from swarm_hub.storage.schema import HEAD
from swarm_hub.util.clock import Clock
from swarm_hub.util.files import sync_directory, write_atomic

_LOGGER = logging.getLogger(__name__)

_SCHEMA: Final = int(HEAD)
_DEFAULT_DATABASE: Final = "swarm_hub.db"
# Extra room, besides the unpacked files, for directories and the database's first start.
_UNSEALED: Final = "unsealed.tar"
_SPARE_BYTES: Final = 16 * 1024**2


@dataclass(frozen=True, slots=True)
class Restored:
    """A finished restore; `replaced` has the earlier files, None if there were none.

    `notes` say what of the present state was kept.
    """

    manifest: BackupManifest
    replaced: Path | None
    notes: tuple[str, ...] = ()


def restore(
    file: Path,
    config_dir: Path,
    *,
    database: Path | None = None,
    only_store: bool = False,
    may_return: Callable[[Sequence[str]], bool] = lambda _names: False,
    clock: Clock | None = None,
    progress: Progress = ignore_progress,
) -> Restored:
    """Restore `config_dir` to the state in a backup; the caller holds the directory's lock.

    With `only_store` this restores the database and its blobs, but not the configuration, keys and
    tokens.

    Keys that were revoked since, bans, used invitations and the newest pinned keys stay. Tokens
    that were revoked since come back if `may_return(their names)` says so, which may ask the user.

    `database` is where the present configuration has its database. If the backup's database lay
    outside its directory, it is restored to that place. Raises BackupError, with nothing changed,
    when the file can't be restored here.
    """
    check_place(config_dir, file)
    finish_restore(config_dir)
    staging = config_dir / STORAGE_DIR / f"restore.{ulid_now()}"
    try:
        with opened(file) as archive:
            _refuse_newer(archive.manifest, file)
            _refuse_small_disk(archive, config_dir)
            targets = _targets(archive.manifest, database)
            if only_store and archive.manifest.database is None:
                raise BackupError(f"{file}: the backup has no database; restore another one")
            if only_store:
                targets = {name: place for name, place in targets.items() if _is_store(name)}
            staging.mkdir(mode=0o700, parents=True)
            archive.unpack(staging, progress)
        if archive.manifest.database is not None:
            _check_database(staging / DATABASE_MEMBER, archive.manifest, file)
        carried = _carry_over(
            staging, config_dir, targets, database, only_store=only_store, may_return=may_return
        )
        databases = {_DEFAULT_DATABASE, targets.get(DATABASE_MEMBER, _DEFAULT_DATABASE)}
        if database is not None and database.is_relative_to(config_dir):
            databases.add(database.relative_to(config_dir).as_posix())
        aside = in_the_way(config_dir, targets.values(), databases, only_store=only_store)
        plan = _plan(config_dir, staging, targets, aside, clock or Clock())
        _refuse_other_filesystems(config_dir, plan)
        sync_directory(staging.parent)
        _write_plan(config_dir, plan)
    except OSError as error:
        raise BackupError(
            f"{config_dir}: the backup can't be unpacked ({error.strerror}); check that the "
            "directory is writable and has free space; nothing was changed"
        ) from error
    finally:
        if not (config_dir / RESTORE_FILE).exists():
            shutil.rmtree(staging, ignore_errors=True)
    finish_restore(config_dir)
    replaced = config_dir / plan.replaced if plan.aside else None
    return Restored(archive.manifest, replaced, carried)


def _carry_over(
    staging: Path,
    config_dir: Path,
    targets: dict[str, str],
    database: Path | None,
    *,
    only_store: bool,
    may_return: Callable[[Sequence[str]], bool],
) -> tuple[str, ...]:
    """Add what must not be taken back to the staged files; returns notes for people."""
    notes: list[str] = []
    if DATABASE_MEMBER in targets:
        present = config_dir / _DEFAULT_DATABASE if database is None else database
        notes += carry_over_rows(staging / DATABASE_MEMBER, present).notes
    if not only_store:
        staged, present = staging / STORAGE_PREFIX, config_dir / STORAGE_DIR
        names = returning_tokens(staged, present)
        done = carry_over_files(staged, present, keep_tokens=bool(names) and may_return(names))
        targets.update({f"{STORAGE_PREFIX}{name}": f"{STORAGE_DIR}/{name}" for name in done.files})
        notes += done.notes
    return tuple(notes)


@contextmanager
def unsealed(file: Path, config_dir: Path, passphrase: str) -> Iterator[Path]:
    """Give a sealed backup as a plain one, beside the keys that are in it; raises BackupError."""
    plain = config_dir / STORAGE_DIR / _UNSEALED
    plain.parent.mkdir(mode=0o700, exist_ok=True)
    # Left by one that was killed.
    plain.unlink(missing_ok=True)
    try:
        unseal(file, plain, passphrase)
        yield plain
    except OSError as error:
        raise BackupError(f"{file}: can't be read or unpacked ({error.strerror})") from error
    finally:
        plain.unlink(missing_ok=True)


def check_place(config_dir: Path, file: Path) -> None:
    """Refuse a directory that holds something, but not a hub; raises BackupError."""
    if not os.path.lexists(config_dir) or (config_dir / RESTORE_FILE).exists():
        return
    if not config_dir.is_dir():
        raise BackupError(f"{config_dir}: expected a directory; name another with -c")
    if holds_hub(config_dir):
        return
    # Backups may have been copied here before everything else.
    allowed = {STORAGE_DIR, "backups", file.name}
    others = sorted(path.name for path in config_dir.iterdir() if path.name not in allowed)
    if others:
        raise BackupError(
            f"{config_dir}: the directory is neither empty nor a hub's (it has {others[0]!r}); "
            "name an empty one with -c"
        )


def read_manifest(file: Path) -> BackupManifest:
    """Return what a backup says about itself; raises BackupError if the file isn't one."""
    with opened(file) as archive:
        return archive.manifest


def _refuse_newer(manifest: BackupManifest, file: Path) -> None:
    if manifest.schema is not None and manifest.schema > _SCHEMA:
        raise _newer(file, manifest.schema, manifest.version)


def _newer(file: Path, schema: int, version: str) -> BackupError:
    return BackupError(
        f"{file}: the backup has schema {schema} (of swarm_hub {version}), this swarm_hub knows "
        f"up to {_SCHEMA}; upgrade swarm_hub or restore an older backup"
    )


def _refuse_small_disk(archive: ArchiveReader, config_dir: Path) -> None:
    free = shutil.disk_usage(config_dir).free
    if archive.size_bytes + _SPARE_BYTES > free:
        raise BackupError(
            f"{config_dir}: the backup needs {archive.size_bytes} bytes, the disk has {free} "
            "free; make room first"
        )


def _targets(manifest: BackupManifest, database: Path | None) -> dict[str, str]:
    """Return which staged files go where; a directory of ours moves as a whole."""
    targets: dict[str, str] = {}
    for member in manifest.members:
        if member.name.startswith(CONFIG_PREFIX):
            place = member.name.removeprefix(CONFIG_PREFIX)
            if place.startswith(f"{CUSTOM_COMPONENTS_DIR}/"):
                place = CUSTOM_COMPONENTS_DIR
            targets[CONFIG_PREFIX + place] = place
        elif member.name.startswith(STORAGE_PREFIX):
            name = member.name.removeprefix(STORAGE_PREFIX)
            targets[member.name] = f"{STORAGE_DIR}/{name}"
    if manifest.database is not None:
        place = _database_place(manifest.database, database)
        targets[DATABASE_MEMBER] = place
        if any(member.name.startswith(BLOBS_PREFIX) for member in manifest.members):
            targets[BLOBS_DIR] = beside(place, BLOBS_DIR)
    _check_targets(targets)
    return targets


def _database_place(recorded: str, database: Path | None) -> str:
    if not recorded.startswith("/"):
        return recorded
    # The path comes from the user's own configuration, never from the backup.
    if database is None or not database.is_absolute():
        raise BackupError(
            f"the database of this backup was outside of its configuration directory, in "
            f"{recorded}; put a {CONFIG_FILE} whose `storage: url:` says where it goes on this "
            "machine into the directory, then restore again"
        )
    return database.as_posix()


def _check_targets(targets: dict[str, str]) -> None:
    places = set(targets.values())
    for place in places:
        problem = relative_problem(place.removeprefix("/"))
        reserved = place in (LOCK_FILE, BACKUP_LOCK_FILE, RESTORE_FILE) or place.startswith(
            (REPLACED_PREFIX, f"{STORAGE_DIR}/restore.")
        )
        inside = {parent.as_posix() for parent in Path(place).parents} & places
        if problem is not None or reserved or inside or place == STORAGE_DIR:
            raise BackupError(f"the backup can't be restored: nothing may be put at {place[:200]}")
    if CONFIG_FILE not in places or len(places) != len(targets):
        raise BackupError(f"the backup can't be restored: expected one {CONFIG_FILE} in it")


def _check_database(staged: Path, manifest: BackupManifest, file: Path) -> None:
    try:
        with closing(open_snapshot(staged)) as connection:
            problem = snapshot_problem(connection)
            if problem is None:
                schema = schema_of(connection)
                if schema > _SCHEMA:
                    raise _newer(file, schema, manifest.version)
                if (schema, database_id_of(connection)) != (manifest.schema, manifest.db_id):
                    problem = "it is not the one that the manifest describes"
    except sqlite3.Error as error:
        problem = str(error)
    if problem is not None:
        raise BackupError(
            f"{file}: the database in the backup is damaged ({problem}); nothing was restored, "
            "take another backup"
        )


def _is_store(member: str) -> bool:
    return member in (DATABASE_MEMBER, BLOBS_DIR)


def _plan(
    config_dir: Path, staging: Path, targets: dict[str, str], aside: list[str], clock: Clock
) -> RestorePlan:
    replaced = _free_name(config_dir, clock.time())
    staged = staging.relative_to(config_dir).as_posix()
    return RestorePlan(
        staging=staged,
        replaced=replaced,
        aside=tuple((place, f"{replaced}/{kept_as(place)}") for place in aside),
        moves=tuple((f"{staged}/{name}", place) for name, place in targets.items()),
    )


def _refuse_other_filesystems(config_dir: Path, plan: RestorePlan) -> None:
    """Refuse, before any rename, what spans file systems: renames work only inside one."""
    home = (config_dir / STORAGE_DIR).stat().st_dev
    for source, target in (*plan.aside, *plan.moves):
        for path in (config_dir / source, config_dir / target):
            folder = next(each for each in path.parents if each.exists())
            if not folder.is_dir() or folder.stat().st_dev != home or os.path.ismount(path):
                raise BackupError(
                    f"{path}: can't be replaced: it is not in a directory on the file system of "
                    f"{config_dir}; restore into an empty directory with -c"
                )


def _write_plan(config_dir: Path, plan: RestorePlan) -> None:
    content = {
        "staging": plan.staging,
        "replaced": plan.replaced,
        "aside": plan.aside,
        "moves": plan.moves,
    }
    write_atomic(config_dir / RESTORE_FILE, json.dumps(content, indent=1).encode(), mode=0o600)


def _free_name(config_dir: Path, now: float) -> str:
    name = f"{REPLACED_PREFIX}{datetime.fromtimestamp(now, UTC).strftime('%Y%m%dT%H%M%SZ')}"
    return f"{name}.{ulid_now()}" if os.path.lexists(config_dir / name) else name
