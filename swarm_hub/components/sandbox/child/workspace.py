"""The directories of a run: a shard's items as files, its results, and the job's script."""

import contextlib
import os
import signal
import stat
import threading
from base64 import b64decode
from collections.abc import Iterator
from typing import NamedTuple

from .archive import header, is_file_name, members, padding
from .failure import Failure

_OUT = "/out"

_ENTRIES_MAX = 10_000
_DEPTH_MAX = 32
_LOOK_EVERY_S = 0.05


class Directory(NamedTuple):
    """A directory of this machine, and the path under which a command sees it."""

    path: str
    guest_path: str
    is_writable: bool


class Workspace:
    """They are private to this process; those for items and results are emptied before each run.

    No limit of the kernel bounds all files of a directory together, so a thread checks them while a
    module runs and ends this process with SIGXFSZ when there are too many bytes: what a flood can
    write within 50 ms is the most that its directory ever holds. A file that is removed while open
    isn't seen; RLIMIT_FSIZE bounds the size of each such file, RLIMIT_NOFILE their number.
    """

    def __init__(self, path: str) -> None:
        self.items = Directory(os.path.join(path, "in"), "/in", False)
        self.results = Directory(os.path.join(path, "out"), _OUT, True)
        self.scripts = Directory(os.path.join(path, "script"), "/script", False)
        self._script: tuple[str, str] | None = None

    def fill(self, body: bytes | bytearray) -> None:
        """Empty both directories and put a shard's items into the first."""
        try:
            for path in (self.items.path, self.results.path):
                _make_empty(path)
            with memoryview(body) as view:
                for name, start, size_bytes in members(body):
                    if not is_file_name(name):
                        raise ValueError(f"{name!r} is not a file name")
                    with open(os.path.join(self.items.path, name), "xb") as file:
                        file.write(view[start : start + size_bytes])
        except ValueError as error:
            raise Failure("bad_input", f"The shard is not an archive of files: {error}") from None
        except OSError as error:
            raise Failure("no_room", f"The shard's files can't be written: {error}") from None

    def keep_script(self, name: str, encoded: str) -> None:
        """Keep a script, given as base64, under its name, and nothing beside it."""
        if self._script == (name, encoded):
            return
        if not is_file_name(name):
            raise Failure("bad_input", f"The script's name {name[:100]!r} is not a file name")
        self._script = None
        try:
            _make_empty(self.scripts.path)
            with open(os.path.join(self.scripts.path, name), "xb") as file:
                file.write(b64decode(encoded))
        except OSError as error:
            raise Failure("no_room", f"The script can't be written: {error}") from None
        self._script = (name, encoded)

    def watched(self, output_bytes: int) -> "_Watch":
        """Return a context in which the results together may not exceed that many bytes."""
        return _Watch(self, output_bytes)

    def collect(self, output_bytes: int) -> bytes:
        """Return the results as an archive in order of their names; raises Failure."""
        found = sorted(self._results(), key=lambda result: result[0])
        total = sum(size_bytes for _, _, size_bytes in found)
        if total > output_bytes:
            raise _too_much(f"{total} bytes, more than the limit of {output_bytes}")
        pieces: list[bytes] = []
        for name, path, _ in found:
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
                body = file.read()
            try:
                pieces += (header(name, len(body)), body, padding(len(body)))
            except ValueError as error:
                raise Failure("output", f"A result under {_OUT}: {error}") from None
        return b"".join(pieces)

    def is_over(self, output_bytes: int) -> bool:
        """Whether the results together exceed that many bytes, or are too many to check."""
        try:
            return sum(size_bytes for _, _, size_bytes in self._results()) > output_bytes
        except (Failure, OSError):
            return True

    def _results(self) -> Iterator[tuple[str, str, int]]:
        """Yield name, path and size of each result; raises Failure for anything else."""
        left = [(self.results.path, "", 0)]
        entries = 0
        while left:
            folder, prefix, depth = left.pop()
            if depth > _DEPTH_MAX:
                raise _too_much(f"directories nested more than {_DEPTH_MAX} deep")
            for entry in _listed(folder):
                entries += 1
                if entries > _ENTRIES_MAX:
                    raise _too_much(f"more than {_ENTRIES_MAX} files")
                name = prefix + entry.name
                # A file that is removed meanwhile is no reason to ignore the rest.
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        left.append((entry.path, name + "/", depth + 1))
                    elif stat.S_ISREG(status.st_mode):
                        yield name, entry.path, status.st_size
                    else:
                        raise Failure("output", f"{_OUT}/{name[:80]} is a link, not a file")


def _listed(folder: str) -> "Iterator[os.DirEntry[str]]":
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as listing:
        yield from listing


class _Watch:
    def __init__(self, room: Workspace, output_bytes: int) -> None:
        self._room = room
        self._output_bytes = output_bytes
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_S):
            if self._room.is_over(self._output_bytes):
                os.kill(os.getpid(), signal.SIGXFSZ)


def _make_empty(path: str) -> None:
    remove_tree(path)
    os.makedirs(path, 0o700)


def _too_much(what: str) -> Failure:
    return Failure(
        "output",
        f"The command left {what} under {_OUT}; use smaller shards or a higher limit",
    )


def remove_tree(path: str) -> None:
    """Remove a directory, if it exists, with everything in it, however deep.

    Every directory that is found is emptied into the top one, so paths stay short.
    """
    number = 0
    while True:
        try:
            with os.scandir(path) as listing:
                folders = [each for each in listing if not _removed(each)]
        except FileNotFoundError:
            return
        if not folders:
            os.rmdir(path)
            return
        for folder in folders:
            with os.scandir(folder.path) as listing:
                inner = [each for each in listing if not _removed(each)]
            for each in inner:
                # No name in a file system is as long as this one.
                os.rename(each.path, os.path.join(path, f"{number:0255d}"))
                number += 1
            os.rmdir(folder.path)


def _removed(entry: "os.DirEntry[str]") -> bool:
    if entry.is_dir(follow_symlinks=False):
        return False
    os.unlink(entry.path)
    return True
