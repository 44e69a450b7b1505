"""The lock between a backup, which reads blob files, and whoever would delete them.

It lies in `.storage` beside the database and not in the configuration directory as such, because
a store knows only where its database is; by default the two are the same.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from swarm_hub.const import BACKUP_LOCK_FILE


@contextlib.contextmanager
def files_kept(folder: Path) -> Iterator[None]:
    """Keep every blob file of the database in `folder`; several backups may do so at once."""
    descriptor = _open(folder)
    try:
        # A round of removals is short, so waiting for one is cheaper than trying again.
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def files_removable(folder: Path) -> Iterator[bool]:
    """Tell whether blob files may be deleted now; while it is true, no backup begins."""
    descriptor = _open(folder)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _open(folder: Path) -> int:
    path = folder / BACKUP_LOCK_FILE
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
