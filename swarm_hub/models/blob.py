"""Bytes on their way to becoming a blob."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


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
