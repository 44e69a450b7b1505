"""The lock between a backup, which reads blob files, and code that would delete them.

It lies in `.storage` beside the database, not beside the configuration, because a store only knows
where its database is; by default both are in the same directory.
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
    """Give whether blob files may be deleted now; if so, no backup begins during the block."""
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
