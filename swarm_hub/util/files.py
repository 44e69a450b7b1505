"""Files that must be whole after a crash and private to their owner."""

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from swarm_hub.exceptions import HubError


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Write `data` to `path` so that a reader or a crash sees the old file or the new one.

    With `durable` the bytes and the directory entry are on disk when this returns
    (temp file, fsync, rename, fsync of the directory).
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Two threads may write the same blob at the same time.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Wait for the lock file `path` and hold it, so that commands change files one by one."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def keep_private(path: Path) -> None:
    """Take what others may do with a file or directory of ours away from them, if it is there."""
    with contextlib.suppress(FileNotFoundError, PermissionError):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            path.chmod(mode & ~0o077)


def file_stamp(path: Path) -> tuple[int, int] | None:
    """Return a value that changes when the file is replaced; None if there is no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_ino


def sync_file(path: Path) -> None:
    """Make the bytes of a file survive a power loss, whoever wrote them."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Make renames and new names inside `path` survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_or_create_key(path: Path, what: str, *, size_bytes: int = 32) -> bytes:
    """Return the secret bytes in `path`, created at first use with mode 0600.

    Raises HubError if the file is readable by others or has a different length: a key that
    leaked or was cut short must be replaced by its owner, never silently by us.
    """
    if not path.exists():
        write_atomic(path, os.urandom(size_bytes), mode=0o600)
    refuse_key(path, what, size_bytes=size_bytes)
    return path.read_bytes()


def refuse_key(path: Path, what: str, *, size_bytes: int = 32) -> None:
    """Raise HubError if the key in `path` can't be used; one that is not there can be made."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise HubError(
            f"{path}: the {what} can be read by other users (mode "
            f"{stat.S_IMODE(status.st_mode):04o}); run: chmod 600 {path}"
        )
    if status.st_size != size_bytes:
        raise HubError(
            f"{path}: the {what} must be exactly {size_bytes} bytes, found {status.st_size}; "
            "restore it from a backup, or delete it to get a new identity"
        )


def free_at(folder: Path) -> int:
    """Return the free bytes of the volume that a folder is on, or would be made on."""
    return shutil.disk_usage(_nearest(folder)).free


def _nearest(folder: Path) -> Path:
    return next(each for each in (folder, *folder.absolute().parents) if each.exists())


def refuse_unwritable(folder: Path) -> None:
    """Raise the OSError with which a file could not be made in `folder`; changes nothing.

    A folder that is not there is made inside the next one above it.
    """
    there = _nearest(folder)
    if not there.is_dir():
        code = errno.ENOTDIR
    elif os.access(there, os.W_OK | os.X_OK):
        return
    else:
        code = errno.EROFS if os.statvfs(there).f_flag & os.ST_RDONLY else errno.EACCES
    raise OSError(code, os.strerror(code), str(there))
