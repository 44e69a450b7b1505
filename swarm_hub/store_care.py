"""The store over a hub's life: opened in whatever state it was left, and watched while it runs.

What makes and restores backups is imported where there are some to make or to restore.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from swarm_hub.config import BackupConfig, Configuration, StorageConfig
from swarm_hub.core import Hub, SimpleReloader
from swarm_hub.exceptions import BackupError, HubError, SetupError, StoreDamagedError
from swarm_hub.storage import Store, created, look_at
from swarm_hub.storage.engine import damage
from swarm_hub.storage.engine.space import too_little
from swarm_hub.storage.engine.sqlite import has_wal_reset_fix
from swarm_hub.util.clock import Clock
from swarm_hub.util.files import free_at, refuse_unwritable

if TYPE_CHECKING:
    from swarm_hub.helpers.obstacles import Obstacle
    from swarm_hub.repairs import Repair
    from swarm_hub.storage.backup.backup import Source
    from swarm_hub.storage.backup.schedule import BackupSchedule

_LOGGER = logging.getLogger(__name__)

# While something is written, and while only other programs may fill the disk.
_LOOK_AT_SPACE_EVERY_S: Final = 2.0
_LOOK_AT_REST_EVERY_S: Final = 30.0
_TIDY_EVERY_S: Final = 3600.0
# Times `storage: min_free`.
_LOW_BELOW: Final = 4
_DEFAULT_BACKUPS: Final = "backups"


def backup_source(configuration: Configuration) -> "Source":
    """Return what a backup of this hub contains."""
    from swarm_hub.storage.backup.backup import Source

    storage, folder = configuration.storage, configuration.directory
    database = None if storage.shared else storage.path(folder)
    return Source(folder, configuration.hub.name, database)


async def open_store(configuration: Configuration, clock: Clock, *, is_gateway: bool) -> Store:
    """Return the open store; raises HubError with what to do.

    A worker whose file is damaged starts with a new one: gateways give its shards to others. A
    gateway never starts empty: it restores its newest backup if configured to, or else stops and
    asks. A file that was made here before and is now missing or empty counts as damaged, not as
    new.
    """
    try:
        return await _opened(configuration, clock)
    except StoreDamagedError as error:
        await asyncio.to_thread(_repair, configuration, error, is_gateway=is_gateway)
    return await _opened(configuration, clock)


def look(configuration: Configuration, *, is_gateway: bool, in_use: bool) -> "Iterator[Obstacle]":
    """Yield what would keep the store from being opened, or from being used; changes nothing.

    It may be `in_use` by the hub of the directory.
    """
    from swarm_hub.helpers.obstacles import Obstacle

    storage, folder = configuration.storage, configuration.directory
    was_made = not storage.shared and created.was_made(folder, storage.url)
    try:
        look_at(storage.url, folder, was_made=was_made, in_use=in_use)
    except StoreDamagedError as error:
        yield _outcome(configuration, error, is_gateway=is_gateway)
    except HubError as error:
        yield Obstacle(str(error), ("url",))
    if not storage.shared:
        free_bytes = free_at(storage.path(folder).parent)
        if free_bytes < storage.min_free_bytes:
            said = too_little(free_bytes, storage.min_free_bytes)
            yield Obstacle(said, ("min_free",), stops=False)
    if storage.backup is not None:
        try:
            refuse_unwritable(_backups(configuration))
        except OSError as error:
            said = f"{error.filename}: backups can't be written there ({error.strerror})"
            yield Obstacle(said, ("backup", "directory"), stops=False)


def _outcome(
    configuration: Configuration, error: StoreDamagedError, *, is_gateway: bool
) -> "Obstacle":
    """Return what a start would do about a damaged database."""
    from swarm_hub.helpers.obstacles import Obstacle

    if not is_gateway:
        return Obstacle(f"{error}; this worker starts with a new one", ("url",), stops=False)
    from swarm_hub.storage.backup.backup import newest_backup

    newest = newest_backup(_backups(configuration), configuration.hub.name)
    if newest is not None and configuration.storage.on_damage == "restore":
        return Obstacle(f"{error}; the start restores {newest}", ("url",), stops=False)
    return Obstacle(_choices(configuration.directory, error, newest), ("url",))


def give_up_database(configuration: Configuration, finding: str) -> Path:
    """Move the database aside, so that the next start makes a new one; returns its new name."""
    database = configuration.storage.path(configuration.directory)
    # Marked first, so that after a kill in between the rest is still known to be damaged.
    damage.mark(database, finding)
    created.forget(configuration.directory)
    return damage.move_aside(database, finding)


def watch(hub: Hub, configuration: Configuration) -> None:
    """Look after the store of a hub that has started."""
    store = hub.store
    store.on_space(hub.bus.fire)
    used = store.sign_of_use()

    async def look_at_space() -> None:
        await store.look_at_space()
        if store.full is not None:
            # Nothing is written then that would have it look again soon.
            used.set()

    hub.tasks.after(
        used,
        look_at_space,
        "free space",
        pause_s=_LOOK_AT_SPACE_EVERY_S,
        at_least_every_s=_LOOK_AT_REST_EVERY_S,
    )

    async def tidy() -> None:
        if removed := await store.blobs.tidy_spools():
            _LOGGER.info("Removed %d files of interrupted uploads", removed)

    # Beside the work, as deleting large files takes a while.
    hub.tasks.spawn(tidy(), "interrupted uploads")
    hub.tasks.every(_TIDY_EVERY_S, tidy, "interrupted uploads")
    backups = _Backups(hub, configuration)

    storage = configuration.storage

    def apply(new: StorageConfig) -> None:
        nonlocal storage
        storage = new
        store.leave_free(new.min_free_bytes)
        backups.follow(new)
        hub.tasks.spawn(look_at_space(), "free space after a reload")

    hub.reloaders["storage"] = SimpleReloader(apply)
    if configuration.storage.shared:
        return
    hub.repair_sources.append(lambda: _repairs(store, storage.min_free_bytes))
    database = configuration.storage.path(configuration.directory)

    def stop_damaged(error: StoreDamagedError) -> None:
        _mark(database, error)
        _LOGGER.critical("%s; the hub stops, and acts upon it at its next start", error)
        hub.ask_to_stop(exit_code=1)

    async def check() -> None:
        try:
            await store.check()
        except StoreDamagedError:
            _LOGGER.debug("The check found the damage")

    store.on_damage(stop_damaged)
    hub.tasks.spawn(check(), "check of the store")
    backups.follow(configuration.storage)


async def _opened(configuration: Configuration, clock: Clock) -> Store:
    storage, folder = configuration.storage, configuration.directory
    was_made = not storage.shared and created.was_made(folder, storage.url)
    store = Store.at(storage.url, folder, clock, storage.min_free_bytes, was_made=was_made)
    await store.open()
    try:
        if not storage.shared:
            database = storage.path(folder)
            # The first readers of the start may find damage that opening missed.
            store.on_damage(lambda error: _mark(database, error))
            await asyncio.to_thread(created.remember, folder, storage.url)
        await store.look_at_space()
    except BaseException:
        await store.close()
        raise
    return store


def _repair(configuration: Configuration, error: StoreDamagedError, *, is_gateway: bool) -> None:
    database = configuration.storage.path(configuration.directory)
    if not is_gateway:
        aside = give_up_database(configuration, error.finding)
        _LOGGER.error("%s; it is kept as %s, and this worker starts with a new one", error, aside)
        return
    from swarm_hub.storage.backup.backup import newest_backup
    from swarm_hub.storage.backup.restore import restore

    newest = newest_backup(_backups(configuration), configuration.hub.name)
    if newest is None or configuration.storage.on_damage != "restore":
        _mark(database, error)
        raise SetupError(_choices(configuration.directory, error, newest))
    try:
        restored = restore(newest, configuration.directory, database=database, only_store=True)
    except BackupError as failed:
        _mark(database, error)
        _LOGGER.error("The newest backup can't be restored: %s", failed)
        raise SetupError(_choices(configuration.directory, error, newest)) from failed
    _LOGGER.error(
        "%s; it is kept in %s, and the jobs are those of the backup %s",
        error, restored.replaced, newest,
    )  # fmt: skip


def _mark(database: Path, error: StoreDamagedError) -> None:
    if not database.exists() or database.stat().st_size == 0:
        return  # Every start sees that, and someone who puts the file back need not know of a mark.
    try:
        damage.mark(database, error.finding)
    except OSError as failed:
        # Then the next start has to find it again.
        _LOGGER.error("%s: the mark of its damage can't be written: %s", database, failed.strerror)


def _choices(config_dir: Path, error: StoreDamagedError, newest: Path | None) -> str:
    empty = f"swarm-hub restore --empty -c {config_dir}"
    if newest is None:
        return (
            f"{error}; there is no backup. A gateway does not start empty on its own: restore a "
            f"copy of your own, or give up its jobs with: {empty}"
        )
    return (
        f"{error}; choose one of:\n"
        f"  swarm-hub restore {newest} -c {config_dir}   # what came after that backup is lost\n"
        f"  {empty}   # all jobs are lost"
    )


def _backups(configuration: Configuration) -> Path:
    backup = configuration.storage.backup
    directory = _DEFAULT_BACKUPS if backup is None else backup.directory
    return configuration.directory / directory


def _repairs(store: Store, min_free_bytes: int) -> "Iterator[Repair]":
    """Yield what is to be done about the disk and the database."""
    from swarm_hub.repairs import Repair

    fix = "Free some space on the disk of the store, or have gc keep less (gc: keep, disk)."
    if store.full is not None:
        yield Repair(
            "disk", "error", f"The disk is full: {store.full}", "Nothing new is taken.", fix
        )
    elif store.free_bytes is not None and store.free_bytes < min_free_bytes * _LOW_BELOW:
        yield Repair(
            "disk",
            "warning",
            f"The disk runs low: {store.free_bytes // 1024**2} MiB are free",
            f"Below {min_free_bytes // 1024**2} MiB (storage: min_free) nothing new is taken.",
            fix,
        )
    if not has_wal_reset_fix(sqlite3.sqlite_version_info):
        yield Repair(
            "sqlite",
            "notice",
            "This SQLite has the WAL-reset bug",
            "If another program writes to the database while the hub runs, it may be damaged.",
            "Let no other program write to it, or have SQLite 3.51.3, 3.50.7 or 3.44.6.",
        )


class _Backups:
    """The backups that a hub makes by itself, as often as is configured now."""

    def __init__(self, hub: Hub, configuration: Configuration) -> None:
        self._hub = hub
        self._configuration = configuration
        self._made: BackupConfig | None = None
        self._task: asyncio.Task[None] | None = None
        self._schedule: BackupSchedule | None = None
        hub.repair_sources.append(self._repairs)

    def follow(self, storage: StorageConfig) -> None:
        """Make backups by this from now on; one that is being made is left out for the next."""
        backup, shared = storage.backup, self._configuration.storage.shared
        if backup == self._made or shared:
            return
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._made, self._schedule = backup, None
        if backup is None:
            return
        from swarm_hub.storage.backup.schedule import BackupSchedule

        configuration = replace(self._configuration, storage=storage)
        schedule = BackupSchedule(
            backup_source(configuration),
            _backups(configuration),
            backup.every_s,
            backup.keep,
            self._hub.clock,
        )
        self._schedule = schedule
        self._task = self._hub.tasks.every(schedule.look_every_s, schedule.look, "backups")

    def _repairs(self) -> "Iterator[Repair]":
        from swarm_hub.repairs import Repair

        schedule = self._schedule
        if schedule is not None and schedule.problem is not None:
            yield Repair(
                "backup",
                "error",
                "The last backup of this hub failed",
                "If this disk is lost now, so are its keys and jobs since the last good backup.",
                f"{schedule.problem}; it is tried again every minute.",
                button="Back up now",
                mend=schedule.look,
            )
