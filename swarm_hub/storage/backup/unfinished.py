"""Completes an interrupted restore; each start asks for one, so no more of backups is here."""

import json
import logging
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ulid_transform import ulid_now

from swarm_hub.const import RESTORE_FILE, STORAGE_DIR
from swarm_hub.exceptions import BackupError
from swarm_hub.util.files import sync_directory

_LOGGER = logging.getLogger(__name__)

STAGING_NAME: Final = re.compile(r"restore\.[0-9A-Z]{26}", re.ASCII)


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """The renames of a restore, relative to the configuration directory, first `aside`."""

    staging: str
    replaced: str
    aside: tuple[tuple[str, str], ...]
    moves: tuple[tuple[str, str], ...]


def finish_restore(config_dir: Path) -> bool:
    """Complete an interrupted restore; returns whether there was one.

    The caller holds the directory's lock. Doing it twice does no harm.
    """
    marker = config_dir / RESTORE_FILE
    storage = config_dir / STORAGE_DIR
    interrupted = marker.exists()
    if interrupted:
        plan = read_plan(marker)
        try:
            _carry_out(config_dir, plan)
            marker.unlink()
            sync_directory(storage)
        except OSError as error:
            raise BackupError(
                f"{config_dir}: a restore can't be finished ({error.filename}: {error.strerror}); "
                "remove that obstacle, and the next start or restore goes on"
            ) from error
        _LOGGER.info(
            "The restore of %s is done; earlier files are in %s", config_dir, plan.replaced
        )
    for leftover in storage.iterdir() if storage.is_dir() else ():
        if STAGING_NAME.fullmatch(leftover.name) and leftover.is_dir():
            shutil.rmtree(leftover)
    return interrupted


def read_plan(marker: Path) -> RestorePlan:
    """Return what an interrupted restore has yet to do; raises BackupError."""
    try:
        content = json.loads(marker.read_bytes())
        return RestorePlan(
            content["staging"],
            content["replaced"],
            tuple((old, kept) for old, kept in content["aside"]),
            tuple((staged, place) for staged, place in content["moves"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupError(
            f"{marker}: the note of an interrupted restore can't be read ({error}); move it away "
            "and restore the backup again"
        ) from error


def _carry_out(config_dir: Path, plan: RestorePlan) -> None:
    for old, kept in plan.aside:
        # Once it was moved, the file with its old name is already the restored one.
        if not os.path.lexists(config_dir / kept) and os.path.lexists(config_dir / old):
            _move(config_dir / old, config_dir / kept)
    _sync_folders(config_dir, plan.aside)
    for staged, place in plan.moves:
        if not os.path.lexists(config_dir / staged):
            continue
        if os.path.lexists(config_dir / place):
            # Made by another program between the kill and this run.
            name = f"{plan.replaced}/{kept_as(place)}.{ulid_now()}"
            _move(config_dir / place, config_dir / name)
        _move(config_dir / staged, config_dir / place)
    _sync_folders(config_dir, plan.moves)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    source.rename(target)


def _sync_folders(config_dir: Path, moves: Iterable[tuple[str, str]]) -> None:
    folders = {config_dir}
    for source, target in moves:
        for path in (config_dir / source, config_dir / target):
            folders.update(each for each in path.parents if each.is_relative_to(config_dir))
            folders.add(path.parent)
    for folder in folders:
        if folder.is_dir():
            sync_directory(folder)


def kept_as(place: str) -> str:
    """Return the name under which what stood at a place is kept."""
    return f"outside/{Path(place).name}" if place.startswith("/") else place
