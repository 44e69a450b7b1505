"""What a disk may look like after the power went: the log of faultfs.c, replayed up to a point.

What a completed sync of a file covers is there; so are the names that a sync of their directory
covers. Of everything later, each 512-byte sector of a file may be in any state it went through,
and each change of a name may have happened or not. Sectors are written whole: SQLite assumes
that, too (https://sqlite.org/psow.html), as do the disks it runs on.
"""

import random
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

SECTOR_BYTES: Final = 512
_HEADER: Final = struct.Struct("<ciqII")


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of the log; which fields are used depends on `kind` (a letter of faultfs.c)."""

    kind: str
    handle: int
    number: int
    first: bytes
    second: bytes


@dataclass(frozen=True, slots=True)
class _Change:
    """A write at an offset, or with `data` None a new size."""

    offset: int
    data: bytes | None


@dataclass(slots=True)
class _File:
    """The bytes that are on disk for certain, and what happened to them since."""

    synced: bytearray = field(default_factory=bytearray)
    later: list[_Change] = field(default_factory=list)


@dataclass(slots=True)
class _Directory:
    """The names that are there for certain, and the changes since: None takes a name away.

    A change is a set of names, because a rename takes one away and gives the other at once.
    """

    synced: dict[str, "_Entry"] = field(default_factory=dict)
    later: list[dict[str, "_Entry | None"]] = field(default_factory=list)

    def now(self) -> dict[str, "_Entry"]:
        return _applied(self.synced, self.later)


_Entry = _File | _Directory
Image = dict[PurePosixPath, bytes]


def read_log(path: Path) -> Iterator[Operation]:
    """Yield the operations of a log in their order."""
    log = path.read_bytes()
    at = 0
    while at < len(log):
        kind, handle, number, first_bytes, second_bytes = _HEADER.unpack_from(log, at)
        at += _HEADER.size
        middle, end = at + first_bytes, at + first_bytes + second_bytes
        first, second, at = log[at:middle], log[middle:end], end
        yield Operation(kind.decode(), handle, number, first, second)


class Disk:
    """A directory as the operations so far left it, in the cache and on the disk."""

    def __init__(self) -> None:
        self._root = _Directory()
        self._open: dict[int, _Entry] = {}

    def apply(self, operation: Operation) -> None:
        """Let one operation happen."""
        kind, path = operation.kind, PurePosixPath(operation.first.decode(errors="replace"))
        if kind == "O":
            self._open[operation.handle] = self._opened(path, new=bool(operation.number))
        elif kind == "W":
            self._file(operation).later.append(_Change(operation.number, operation.first))
        elif kind == "T":
            self._file(operation).later.append(_Change(operation.number, None))
        elif kind == "S":
            _sync(self._open[operation.handle])
        elif kind == "M":
            self._name(path, _Directory())
        elif kind == "U":
            self._name(path, None)
        elif kind == "R":
            self._rename(path, PurePosixPath(operation.second.decode()))
        elif kind == "L":
            self._name(PurePosixPath(operation.second.decode()), self._find(path))
        elif kind != "A":
            raise ValueError(f"operation {kind!r} of the log is not known")

    def whole(self) -> Image:
        """Return the files as a running system sees them."""
        return {
            path: _content(file, _all, random.Random())
            for path, file in _files(self._root, _Directory.now)
        }

    def after_power_loss(self, rng: random.Random) -> Image:
        """Return the files as they may be after the power went now."""
        survival = rng.choice(_SURVIVALS)
        names = rng.choice(("none", "all", "some"))

        def kept(directory: _Directory) -> dict[str, _Entry]:
            changes = [
                change
                for change in directory.later
                if names == "all" or (names == "some" and rng.random() < 0.5)
            ]
            return _applied(directory.synced, changes)

        return {path: _content(file, survival, rng) for path, file in _files(self._root, kept)}

    def _opened(self, path: PurePosixPath, new: bool) -> _Entry:
        if path == PurePosixPath("."):
            return self._root
        if new:
            self._name(path, _File())
        return self._find(path)

    def _file(self, operation: Operation) -> _File:
        file = self._open[operation.handle]
        assert isinstance(file, _File)
        return file

    def _directory(self, path: PurePosixPath) -> _Directory:
        found = self._root if path == PurePosixPath(".") else self._find(path)
        assert isinstance(found, _Directory), path
        return found

    def _find(self, path: PurePosixPath) -> _Entry:
        return self._directory(path.parent).now()[path.name]

    def _name(self, path: PurePosixPath, entry: _Entry | None) -> None:
        self._directory(path.parent).later.append({path.name: entry})

    def _rename(self, source: PurePosixPath, target: PurePosixPath) -> None:
        if source.parent != target.parent:
            raise ValueError(f"renaming {source} to {target}: only inside a directory, so far")
        names = {source.name: None, target.name: self._find(source)}
        self._directory(source.parent).later.append(names)


def write_image(image: Image, folder: Path) -> None:
    """Make a directory of an image, without SQLite's -shm, which is memory and not disk."""
    for path, content in image.items():
        if path.name.endswith("-shm"):
            continue
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _sync(entry: _Entry) -> None:
    if isinstance(entry, _File):
        entry.synced = bytearray(_content(entry, _all, random.Random()))
    else:
        entry.synced = entry.now()
    entry.later.clear()


def _applied(
    names: dict[str, _Entry], changes: Sequence[Mapping[str, "_Entry | None"]]
) -> dict[str, _Entry]:
    found: dict[str, _Entry | None] = {**names}
    for change in changes:
        found |= change
    return {name: entry for name, entry in found.items() if entry is not None}


def _files(
    directory: _Directory, names_of: Callable[[_Directory], dict[str, _Entry]]
) -> Iterator[tuple[PurePosixPath, _File]]:
    for name, entry in names_of(directory).items():
        if isinstance(entry, _File):
            yield PurePosixPath(name), entry
        else:
            for path, file in _files(entry, names_of):
                yield name / path, file


def _content(file: _File, survival: "_Survival", rng: random.Random) -> bytes:
    """Return a file of which each sector, and the size, saw only the first so many changes."""
    n_changes = len(file.later)
    ends = [change.offset + len(change.data or b"") for change in file.later]
    extent = max([len(file.synced), *ends])
    seen = survival(rng, n_changes, -(-extent // SECTOR_BYTES) + 1)
    content = bytearray(file.synced) + bytearray(extent - len(file.synced))
    for number, change in enumerate(file.later):
        data = change.data
        end = extent if data is None else change.offset + len(data)
        at = change.offset
        while at < end:
            sector = at // SECTOR_BYTES
            until = min((sector + 1) * SECTOR_BYTES, end)
            if number < seen[sector]:
                content[at:until] = (
                    bytes(until - at)
                    if data is None
                    else data[at - change.offset : until - change.offset]
                )
            at = until
    return bytes(content[: _size(file, seen[-1])])


def _size(file: _File, n_changes: int) -> int:
    size = len(file.synced)
    for change in file.later[:n_changes]:
        size = change.offset if change.data is None else max(size, change.offset + len(change.data))
    return size


# How many of the changes since the last sync each of `n` parts of a file saw.
_Survival = Callable[[random.Random, int, int], list[int]]


def _all(_rng: random.Random, n_changes: int, n: int) -> list[int]:
    return [n_changes] * n


def _none(_rng: random.Random, _n_changes: int, n: int) -> list[int]:
    return [0] * n


def _in_order(rng: random.Random, n_changes: int, n: int) -> list[int]:
    """The changes before one arrived; that one is torn."""
    torn = rng.randint(0, n_changes)
    return [rng.randint(torn, min(torn + 1, n_changes)) for _ in range(n)]


def _in_any_order(rng: random.Random, n_changes: int, n: int) -> list[int]:
    return [rng.randint(0, n_changes) for _ in range(n)]


_SURVIVALS: Final = (_all, _none, _in_order, _in_any_order)
