"""The audit log: who changed what through the API, one line each, in files of bounded size."""

import io
import logging
import os
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

from aiohttp import web

from swarm_hub.components.api.logins import Logins
from swarm_hub.helpers.tokens import Token
from swarm_hub.util.printable import PrintableFormatter

_LOGGER = logging.getLogger(__name__)

# Where `Access` leaves the token of a request.
CALLER: Final = web.RequestKey("caller", Token)
_READS: Final = ("GET", "HEAD", "OPTIONS")
_FILE_MAX_BYTES: Final = 8 * 1024 * 1024
_FILES_KEPT: Final = 4
_PATH_MAX_CHARS: Final = 300
_FORMAT: Final = "%(asctime)s.%(msecs)03dZ %(message)s"


class AuditLog:
    """Writes down what callers with a token changed, or were refused to change."""

    def __init__(self, path: Path, logins: Logins) -> None:
        self._logins = logins
        self._file = _PrivateFile(path)

    def request(self, request: web.Request, status: int) -> None:
        """Note a request, if it could change anything and somebody sent it."""
        caller = request.get(CALLER)
        if caller is not None and request.method not in _READS:
            # Still encoded, so it has no line of its own; without the query.
            path = request.rel_url.raw_path[:_PATH_MAX_CHARS]
            self.note(caller, self._logins.address_of(request), f"{request.method} {path}", status)

    def note(self, caller: Token, address: str, action: str, outcome: object) -> None:
        """Note what somebody did, and what came of it; `address` is empty on the unix socket."""
        self._file.note(
            f"{caller.name} (token {caller.id}, owner {caller.account}) from "
            f"{address or 'this device'}: {action} {outcome}"
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _PrivateFile(RotatingFileHandler):
    """Opens its file when there is something to write, for its owner alone."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            path, maxBytes=_FILE_MAX_BYTES, backupCount=_FILES_KEPT, encoding="utf-8", delay=True
        )
        formatter = PrintableFormatter(_FORMAT, "%Y-%m-%dT%H:%M:%S")
        formatter.converter = time.gmtime
        self.setFormatter(formatter)
        self._failed = False

    def note(self, line: str) -> None:
        """Write a line."""
        self.handle(logging.LogRecord("swarm_hub.audit", logging.INFO, "", 0, line, None, None))

    def handleError(self, _record: logging.LogRecord) -> None:
        """Say once that nothing can be written; requests are served all the same."""
        if not self._failed:
            self._failed = True
            _LOGGER.error("The audit log %s can't be written", self.baseFilename, exc_info=True)

    def _open(self) -> io.TextIOWrapper:
        def private(path: str, flags: int) -> int:
            return os.open(path, flags, 0o600)

        file = io.BufferedWriter(io.FileIO(self.baseFilename, "a", opener=private))
        return io.TextIOWrapper(file, encoding="utf-8")
