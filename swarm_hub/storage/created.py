"""Remembers in `.storage` which database was made, so that a lost one isn't taken for a new one.

To SQLite an empty or missing file is a new database: everything would be lost without a warning.
"""

from pathlib import Path

from swarm_hub.const import DATABASE_MADE_FILE
from swarm_hub.util.files import sync_directory, write_atomic


def remember(config_dir: Path, url: str) -> None:
    """Remember that the database at `url` was made; this is on disk when it returns."""
    if not was_made(config_dir, url):
        write_atomic(config_dir / DATABASE_MADE_FILE, f"{url}\n".encode(), mode=0o600)


def was_made(config_dir: Path, url: str) -> bool:
    """Whether the database at `url`, and not that of an earlier configuration, was made here."""
    try:
        return (config_dir / DATABASE_MADE_FILE).read_text(errors="replace").strip() == url
    except FileNotFoundError:
        return False


def forget(config_dir: Path) -> None:
    """Let the next start make a new database."""
    mark = config_dir / DATABASE_MADE_FILE
    if mark.exists():
        mark.unlink()
        sync_directory(mark.parent)
