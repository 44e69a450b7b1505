"""A log of lines that is there line by line, and is gone on with after a kill."""

import contextlib
from pathlib import Path
from typing import Self, TextIO

from swarm_hub.exceptions import HubError


class LineLog:
    """The file of `--joblog`: each line is in it as soon as what it tells is done."""

    def __init__(self, path: Path, head: str, *, is_new: bool) -> None:
        """Begin a file with its head, or go on with the one that is there; raises HubError."""
        self._path = path
        try:
            self._file: TextIO = path.open("w" if is_new else "r+", encoding="utf-8")
            if is_new:
                self._write(head)
            else:
                # Whoever was killed while it wrote left a part of a line.
                self._file.seek(path.read_bytes().rfind(b"\n") + 1)
                self._file.truncate()
        except OSError as error:
            raise self._unwritable(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # What it still holds is what could not be written before, as was said then.
        with contextlib.suppress(OSError):
            self._file.close()

    def _write(self, text: str) -> None:
        try:
            self._file.write(f"{text}\n")
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> HubError:
        return HubError(f"--joblog {self._path}: can't be written: {error.strerror}")
