"""A blob on its way to us, whichever way it comes: bytes in order, then checked by their hash."""

import asyncio
from typing import Final, Protocol

from swarm_hub.exceptions import MeshError
from swarm_hub.util.hashing import sha256_hex
from swarm_hub.util.within import within

# Hashing more than this is done in a thread, so that the loop goes on.
_HASHED_AT_ONCE_BYTES: Final = 256 * 1024


class Readable(Protocol):
    """Bytes that a part can be read of: in memory or in a mapped file."""

    def __getitem__(self, part: slice, /) -> bytes:
        """Return a part of the bytes."""

    def __len__(self) -> int:
        """Return the number of bytes."""


class Incoming:
    """What has arrived so far of a blob; a later attempt goes on from there."""

    def __init__(self, sha: str, size_bytes: int) -> None:
        self.sha = sha
        self.size_bytes = size_bytes
        self.received = bytearray()
        # Something happened: bytes came, or the attempt failed.
        self.progress = asyncio.Event()
        self.failure: str | None = None

    @property
    def offset(self) -> int:
        """Where the next byte belongs."""
        return len(self.received)

    @property
    def is_complete(self) -> bool:
        """Whether every byte is here."""
        return len(self.received) == self.size_bytes

    def add(self, offset: int, body: bytes) -> None:
        """Add the bytes at `offset`; raises MeshError if they can't be the next ones."""
        if offset != len(self.received):
            raise MeshError(f"parts of {self.sha[:12]} came out of order")
        if offset + len(body) > self.size_bytes:
            raise MeshError(f"more bytes came than {self.sha[:12]} has")
        self.received += body
        self.progress.set()

    def fail(self, reason: str) -> None:
        """End this attempt."""
        self.failure = self.failure or reason
        self.progress.set()

    async def wait(self, timeout_s: float) -> None:
        """Wait for progress; raises MeshError when there is none or the attempt has failed."""
        if not await within(timeout_s, self.progress.wait()):
            raise MeshError(f"{self.sha[:12]} stalled for {timeout_s:.0f} s")
        self.progress.clear()
        if self.failure is not None:
            raise MeshError(self.failure)

    async def verified(self) -> bytes:
        """Return the complete bytes; raises MeshError, and starts over, if they are others."""
        data = bytes(self.received)
        large = len(data) > _HASHED_AT_ONCE_BYTES
        found = await asyncio.to_thread(sha256_hex, data) if large else sha256_hex(data)
        if found != self.sha:
            self.received.clear()
            raise MeshError(f"the bytes that came are not {self.sha[:12]}")
        return data
