"""Which files of a configuration directory make up a hub, beside its database and blobs."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from swarm_hub.const import (
    ADMIN_TOKEN_FILE,
    CONFIG_FILE,
    CUSTOM_COMPONENTS_DIR,
    DATABASE_MADE_FILE,
    JOIN_TOKENS_FILE,
    REVOKED_FILE,
    ROTATIONS_FILE,
    STORAGE_DIR,
    TOKENS_FILE,
)
from swarm_hub.util.yaml_loader import YAML_SUFFIXES

BLOBS_DIR: Final = "blobs"
# A database in WAL mode consists of all these together; one alone is damaged or old. The mark of a
# damaged one (storage/engine/damage.py) goes with it.
DATABASE_SUFFIXES: Final = ("", "-wal", "-shm", "-journal", ".damaged")
REPLACED_PREFIX: Final = "replaced."
# What belongs to the keys and tokens, apart from the keys themselves.
TOKEN_FILES: Final = (
    TOKENS_FILE,
    ADMIN_TOKEN_FILE,
    JOIN_TOKENS_FILE,
    REVOKED_FILE,
    ROTATIONS_FILE,
)


def configuration_files(config_dir: Path) -> list[str]:
    """Return the YAML files and custom components, relative to the directory."""
    return sorted(_configuration_files(config_dir))


def private_files(config_dir: Path) -> list[str]:
    """Return the names of the keys and tokens in `.storage`."""
    storage = config_dir / STORAGE_DIR
    keys = [path.name for path in storage.glob("*.key") if path.is_file()]
    return sorted([*keys, *(name for name in TOKEN_FILES if (storage / name).is_file())])


def holds_hub(config_dir: Path) -> bool:
    """Whether the directory belongs to a hub."""
    return (config_dir / CONFIG_FILE).is_file() or bool(private_files(config_dir))


def in_the_way(
    config_dir: Path, needed: Collection[str], databases: Collection[str], *, only_store: bool
) -> list[str]:
    """Return everything of the present hub, and whatever occupies a place that is needed.

    `databases` are the places where a database may be, relative to the directory.
    """
    custom = f"{CUSTOM_COMPONENTS_DIR}/"
    rest = {
        *(name for name in configuration_files(config_dir) if not name.startswith(custom)),
        CUSTOM_COMPONENTS_DIR,
        *(f"{STORAGE_DIR}/{name}" for name in private_files(config_dir)),
    }
    places = {
        *(() if only_store else rest),
        DATABASE_MADE_FILE,
        *(f"{each}{suffix}" for each in databases for suffix in DATABASE_SUFFIXES),
        *(beside(each, BLOBS_DIR) for each in databases),
        *needed,
    }
    there = {place for place in places if os.path.lexists(config_dir / place)}
    # What is inside another entry is moved along with it.
    return sorted(
        place
        for place in there
        if not {parent.as_posix() for parent in Path(place).parents} & there
    )


def beside(place: str, name: str) -> str:
    """Return the path of a name in the same folder."""
    return (Path(place).parent / name).as_posix()


def _configuration_files(config_dir: Path) -> Iterator[str]:
    root = config_dir.resolve()
    for folder, folders, names in os.walk(root):
        within = Path(folder).relative_to(root)
        folders[:] = [each for each in folders if _is_ours(root / within / each, within)]
        custom = within.parts[:1] == (CUSTOM_COMPONENTS_DIR,)
        for name in names:
            path = root / within / name
            wanted = custom or path.suffix in YAML_SUFFIXES
            # The configuration reader also refuses paths that lead out of the directory.
            if wanted and path.is_file() and path.resolve().is_relative_to(root):
                yield (within / name).as_posix()


def _is_ours(folder: Path, parent: Path) -> bool:
    """Whether to look into a folder: not if it is a cache, a store, an old state or another hub."""
    return not (
        folder.name.startswith(".")
        or folder.name == "__pycache__"
        or (folder.name == BLOBS_DIR and parent.parts[:1] != (CUSTOM_COMPONENTS_DIR,))
        or folder.name.startswith(REPLACED_PREFIX)
        or (folder / STORAGE_DIR).is_dir()
    )
