"""The audit log: who changed what through the API, one line each, in files of bounded size."""

import logging
import os
import time
from itertools import pairwise
from pathlib import Path
from typing import Final

from aiohttp import web

from swarm_hub.components.api.logins import Logins
from swarm_hub.helpers.tokens import Token
from swarm_hub.util.clock import isoformat
from swarm_hub.util.printable import printable

_LOGGER = logging.getLogger(__name__)

# Where `Access` leaves the token of a request.
CALLER: Final = web.RequestKey("caller", Token)
_READS: Final = ("GET", "HEAD", "OPTIONS")
FILE_MAX_BYTES = 8 * 1024 * 1024
FILES_KEPT: Final = 4
_KEPT: Final = range(1, FILES_KEPT + 1)
_PATH_MAX_CHARS: Final = 300


class AuditLog:
    """Writes down what callers with a token changed, or were refused to change.

    It writes by itself: what `logging` does for each line would cost four times as much, at each
    submission of a small job.
    """

    def __init__(self, path: Path, logins: Logins) -> None:
        self._path = path
        self._logins = logins
        self._file: int | None = None
        self._size_bytes = 0
        self._failed = False

    def request(self, request: web.Request, status: int) -> None:
        """Note a request, if it could change anything and somebody sent it."""
        caller = request.get(CALLER)
        if caller is not None and request.method not in _READS:
            # Without the query, in which there may be anything.
            path = request.rel_url.raw_path[:_PATH_MAX_CHARS]
            self.note(caller, self._logins.address_of(request), f"{request.method} {path}", status)

    def command(self, request: web.Request, caller: Token, name: str, outcome: str) -> None:
        """Note a command that came by the websocket of a request, if it could change anything."""
        self.note(caller, self._logins.address_of(request), f"command {name}", outcome)

    def note(self, caller: Token, address: str, action: str, outcome: object) -> None:
        """Note what somebody did, and what came of it; `address` is empty on the unix socket."""
        line = printable(
            f"{isoformat(time.time())} {caller.name} (token {caller.id}, owner {caller.account}) "
            f"from {address or 'this device'}: {action} {outcome}"
        ).replace("\n", "\\n")
        try:
            self._write(f"{line}\n".encode())
        except OSError as error:
            # Requests are served all the same.
            if not self._failed:
                _LOGGER.error("The audit log %s can't be written: %s", self._path, error.strerror)
            self._failed = True

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, line: bytes) -> None:
        if self._file is None:
            self._open()
        elif self._size_bytes + len(line) > FILE_MAX_BYTES:
            self._begin_anew()
        assert self._file is not None
        os.write(self._file, line)
        self._size_bytes += len(line)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        self._file = os.open(self._path, flags, 0o600)
        self._size_bytes = os.fstat(self._file).st_size

    def _begin_anew(self) -> None:
        self.close()
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in _KEPT)]
        for newer, older in reversed(tuple(pairwise(names))):
            if newer.exists():
                newer.replace(older)
        self._open()
