"""Unix sockets for one user alone, however long their path."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from swarm_hub.exceptions import HubError

# `sun_path` has 108 bytes on Linux and 104 elsewhere, the last of them NUL.
_ADDRESS_MAX_BYTES: Final = 103
_DESCRIPTORS: Final = Path("/proc/self/fd")


@contextlib.contextmanager
def short_address(path: Path) -> Iterator[str]:
    """Give an address of a socket that is short enough; raises HubError where there is none.

    A long one is shortened by way of an open directory, which only Linux and Android let a path
    begin with.
    """
    path = path.absolute()
    if len(os.fsencode(path)) <= _ADDRESS_MAX_BYTES:
        yield str(path)
        return
    if not _DESCRIPTORS.is_dir():
        raise HubError(
            f"{path}: a socket's path has at most {_ADDRESS_MAX_BYTES} bytes here; choose a "
            "configuration directory with a shorter path"
        )
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield str(_DESCRIPTORS / str(folder) / path.name)
    finally:
        os.close(folder)


def bind_private(path: Path) -> socket.socket:
    """Return a socket bound to `path`, with mode 0600, in the place of one that is left there.

    Raises HubError and OSError. The caller knows that nobody listens there.
    """
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_address(path) as address:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address)
            bound.bind(address)
            # Nobody can connect before it listens, so it is private from its first moment.
            os.chmod(address, 0o600)
    except BaseException:
        bound.close()
        raise
    return bound


def answers_at(path: Path) -> bool:
    """Whether somebody listens on the socket `path`, and lets this user in."""
    try:
        with (
            short_address(path) as address,
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection,
        ):
            connection.connect(address)
    except (OSError, HubError):
        return False
    return True
