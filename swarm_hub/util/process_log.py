"""The log of this process: where it goes, in which form, and from which level on.

`run` opens it before the configuration is read; `logger:` then says the rest, and a reload or an
administrator may change it. What the command line says counts in any case.
"""

import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from swarm_hub.exceptions import HubError
from swarm_hub.util.printable import PrintableFormatter

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
MAX_SIZE_BYTES: Final = 1024 * 1024
KEEP: Final = 5
_LINE: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
# What they say at the level `info` is about themselves.
_NOISY: Final = ("asyncio", "aiohttp", "sqlalchemy")
_OURS: Final = ("swarm_hub", "custom_components")


@dataclass(frozen=True, slots=True)
class LoggerConfig:
    """`logger:`: from which level on, in all and by component, and where the log goes."""

    default: str = "info"
    logs: Mapping[str, str] = field(default_factory=dict)
    json: bool = False
    file: str | None = None
    max_size_bytes: int = MAX_SIZE_BYTES
    keep: int = KEEP


class Levels:
    """From which level on the hub's own loggers log; those of a process, whatever hub is in it."""

    def __init__(self) -> None:
        self.default = "info"
        self.logs: dict[str, str] = {}

    def set(self, default: str, logs: Mapping[str, str]) -> None:
        """Log from these levels on; a logger that is named no more follows the default again."""
        for name in self.logs.keys() - logs.keys():
            _set(name, logging.NOTSET)
        for logger in _OURS:
            logging.getLogger(logger).setLevel(default.upper())
        for name, level in logs.items():
            _set(name, level.upper())
        self.default, self.logs = default, dict(logs)


class ProcessLog:
    """The handler that a running hub logs by, and its levels."""

    def __init__(self, file: Path | None = None, *, as_json: bool = False, debug: bool = False):
        # What the command line says.
        self._file, self._as_json, self._debug = file, as_json, debug
        self._handler: logging.Handler | None = None
        self._next: logging.Handler | None = None
        self.levels = Levels()

    def open(self) -> None:
        """Log as the command line says; raises HubError for a file that can't be written."""
        root = logging.getLogger()
        root.setLevel(logging.DEBUG if self._debug else logging.INFO)
        if not self._debug:
            for noisy in _NOISY:
                logging.getLogger(noisy).setLevel(logging.WARNING)
        self.prepare(LoggerConfig(), Path())
        self.apply(LoggerConfig())

    def prepare(self, config: LoggerConfig, folder: Path) -> None:
        """Open what `config` names; raises HubError if it can't be written.

        A relative file is inside `folder`.
        """
        if self._next is not None:
            self._next.close()
        path = self._file or (None if config.file is None else folder / config.file)
        handler = _handler(path, config)
        if self._as_json or config.json:
            from swarm_hub.util.json_log import JsonFormatter

            handler.setFormatter(JsonFormatter())
        else:
            handler.setFormatter(PrintableFormatter(_LINE))
        self._next = handler

    def apply(self, config: LoggerConfig) -> None:
        """Log to what was prepared last, from the levels of `config` on."""
        self.levels.set("debug" if self._debug else config.default, config.logs)
        if self._next is None:
            return
        root, old = logging.getLogger(), self._handler
        self._handler, self._next = self._next, None
        root.addHandler(self._handler)
        if old is not None:
            root.removeHandler(old)
            old.close()


def _handler(path: Path | None, config: LoggerConfig) -> logging.Handler:
    if path is None:
        return logging.StreamHandler(sys.stderr)
    # It brings pickle and queues along, which no other hub needs.
    from logging.handlers import RotatingFileHandler

    try:
        # What strangers and other hubs said is for the owner alone; files that follow get its mode
        # from the umask of the runner.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    except OSError as error:
        raise HubError(f"the log {path} can't be written: {error.strerror}") from error
    return RotatingFileHandler(
        path,
        maxBytes=config.max_size_bytes,
        backupCount=config.keep,
        encoding="utf-8",
        errors="replace",
    )


def _set(name: str, level: int | str) -> None:
    for logger in loggers_of(name):
        logging.getLogger(logger).setLevel(level)


def loggers_of(name: str) -> tuple[str, ...]:
    """Return the loggers that a name in `logs:` stands for: a component's, or the one named."""
    if "." in name or name in (*_NOISY, *_OURS):
        return (name,)
    if name == "storage":
        return ("swarm_hub.storage",)
    return (f"swarm_hub.components.{name}", f"custom_components.{name}")


# The log of this process; None where a hub is a guest in another program, which logs as it likes.
_process_log: ProcessLog | None = None


def open_log(file: Path | None, *, as_json: bool, debug: bool) -> None:
    """Have this process log as its command line says."""
    global _process_log
    opened = ProcessLog(file, as_json=as_json, debug=debug)
    opened.open()
    _process_log = opened


def process_log() -> ProcessLog | None:
    """Return the log of this process, if a hub has it for itself."""
    return _process_log
