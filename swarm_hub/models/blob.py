"""Bytes that are on disk already, but belong to nothing yet."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SpooledBlob:
    """An upload written to a file as it came, with the hash that was taken on the way."""

    path: Path
    sha: str
    size_bytes: int
