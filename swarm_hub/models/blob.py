"""Bytes on their way to becoming a blob, or read from one part by part."""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

_WINDOW_BYTES: Final = 1024 * 1024
_LET_GO_BYTES: Final = 8 * 1024 * 1024


class Readable(Protocol):
    """Bytes that can be read in parts, from memory or a file."""

    def __getitem__(self, part: slice, /) -> bytes:
        """Return a part of the bytes."""

    def __len__(self) -> int:
        """Return the number of bytes."""


@dataclass(frozen=True, slots=True)
class SpooledBlob:
    """An upload written to a file as it came, with the hash computed on the way."""

    path: Path
    sha: str
    size_bytes: int


class Slice:
    """The bytes from `start` to `end` of others, which are copied only when they are read."""

    def __init__(self, body: Readable, start: int, end: int) -> None:
        self.body = body
        self._start = start
        self._end = end

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(len(self))
        return bytes(self.body[self._start + start : self._start + stop])

    def __len__(self) -> int:
        return self._end - self._start


def windows(body: Readable) -> Iterator[bytes]:
    """Yield bytes a mebibyte at a time; of a mapped file no more than a few stay in memory."""
    for at in range(0, len(body), _WINDOW_BYTES):
        yield body[at : at + _WINDOW_BYTES]
        if (at + _WINDOW_BYTES) % _LET_GO_BYTES == 0:
            let_go(body)
    if len(body) > _WINDOW_BYTES:
        let_go(body)


def let_go(body: Readable) -> None:
    """Have what was read of a mapped file no longer count as this process's memory."""
    while isinstance(body, Slice):
        body = body.body
    if isinstance(body, mmap.mmap):
        body.madvise(mmap.MADV_DONTNEED)
