"""Where the control socket of a configuration directory is, however long its path."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from swarm_hub.const import CONTROL_SOCKET
from swarm_hub.exceptions import HubError

# `sun_path` has 108 bytes on Linux and 104 elsewhere, the last of them NUL.
_ADDRESS_MAX_BYTES: Final = 103
_DESCRIPTORS: Final = Path("/proc/self/fd")


@contextlib.contextmanager
def socket_address(config_dir: Path) -> Iterator[str]:
    """Give an address of the socket that is short enough; raises HubError where there is none.

    A long one is shortened by way of an open directory, which only Linux and Android let a path
    begin with.
    """
    path = (config_dir / CONTROL_SOCKET).absolute()
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
