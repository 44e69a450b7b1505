"""A blob on its way to us, by whichever route: bytes in order, then checked by their hash."""

import asyncio
import hashlib
import os
import tempfile
import threading
from pathlib import Path
from typing import Final

from swarm_hub.exceptions import MeshError
from swarm_hub.util.hashing import sha256_hex
from swarm_hub.util.within import within

# Hashing more than this is done in a thread, so that the loop stays free.
_HASHED_AT_ONCE_BYTES: Final = 256 * 1024
# Below this size a file costs more than the memory.
_SPILLED_BYTES: Final = 256 * 1024
_READ_BYTES: Final = 1024 * 1024


class Spill:
    """A file without a name, which can be used as a `bytearray` that only grows at its end.

    Its writes go to the page cache; to outlive the process, the bytes have to be stored elsewhere.
    A disk that is too slow holds a writer up all the same, so most of them come from a thread;
    `close` does not wait for it.
    """

    def __init__(self, directory: Path) -> None:
        self._size_bytes = 0
        self._closed = False
        self._writing = threading.Lock()
        try:
            self._descriptor, name = tempfile.mkstemp(prefix="incoming-", dir=directory)
            os.unlink(name)
        except OSError as error:
            raise MeshError(f"no file can be made for what comes: {error.strerror}") from error

    def __len__(self) -> int:
        return self._size_bytes

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(self._size_bytes)
        return os.pread(self._descriptor, max(0, stop - start), start)

    def __delitem__(self, part: slice, /) -> None:
        with self._writing:
            self._size_bytes = part.indices(self._size_bytes)[0]

    def extend(self, body: bytes) -> None:
        """Add bytes; raises MeshError when there is no space for them."""
        try:
            with self._writing:
                if self._closed:
                    raise MeshError("nobody waits for what comes any more")
                if os.pwrite(self._descriptor, body, self._size_bytes) != len(body):
                    raise MeshError("no space left on the disk for what comes")
                self._size_bytes += len(body)
        except OSError as error:
            raise MeshError(f"what comes can't be written: {error.strerror}") from error
        finally:
            self._close_if_asked()

    def sha256(self) -> str:
        """Return the hash of the bytes; blocks for a while."""
        digest = hashlib.sha256()
        for start in range(0, self._size_bytes, _READ_BYTES):
            digest.update(self[start : start + _READ_BYTES])
        return digest.hexdigest()

    def close(self) -> None:
        """Give the space back, if a thread still writes when it is done."""
        self._closed = True
        self._close_if_asked()

    def _close_if_asked(self) -> None:
        # Whoever comes last closes; before that the number could be another file's by now.
        if self._closed and self._writing.acquire(blocking=False):
            descriptor, self._descriptor = self._descriptor, -1
            self._writing.release()
            if descriptor >= 0:
                os.close(descriptor)


class Incoming:
    """What has arrived so far of a blob; a later attempt continues from there.

    A large one is in a file of `spill_dir`, if there is such a directory, else in memory.
    """

    def __init__(self, sha: str, size_bytes: int, spill_dir: Path | None = None) -> None:
        self.sha = sha
        self.size_bytes = size_bytes
        self.received: bytearray | Spill = bytearray()
        if spill_dir is not None and size_bytes > _SPILLED_BYTES:
            self.received = Spill(spill_dir)
        # Something happened: bytes came, or the attempt failed.
        self.progress = asyncio.Event()
        self.failure: str | None = None

    @property
    def offset(self) -> int:
        """Where the next byte belongs."""
        return len(self.received)

    @property
    def is_complete(self) -> bool:
        """Whether every byte has arrived."""
        return len(self.received) == self.size_bytes

    def add(self, offset: int, body: bytes) -> None:
        """Add the bytes at `offset`; raises MeshError if they can't be the next ones.

        On the loop, for the chunks of the mesh's own stream: a call to a thread for each of their
        63 KiB would take longer than the write, and they must be known of before the next message.
        """
        self.store(offset, body)
        self.progress.set()

    def store(self, offset: int, body: bytes) -> None:
        """Add bytes from a thread, as `add` does; `progress` is left to the loop."""
        if offset != len(self.received):
            raise MeshError(f"parts of {self.sha[:12]} came out of order")
        if offset + len(body) > self.size_bytes:
            raise MeshError(f"more bytes came than {self.sha[:12]} has")
        self.received.extend(body)

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

    def start_over(self) -> None:
        """Forget what has arrived."""
        del self.received[0:]

    def close(self) -> None:
        """Release the memory or disk space that it takes."""
        if isinstance(self.received, Spill):
            self.received.close()

    async def verified(self) -> bytes | Spill:
        """Return the complete bytes; raises MeshError, and starts over, if their hash is wrong."""
        data: bytes | Spill
        if isinstance(self.received, Spill):
            data, found = self.received, await asyncio.to_thread(self.received.sha256)
        else:
            data = bytes(self.received)
            large = len(data) > _HASHED_AT_ONCE_BYTES
            found = await asyncio.to_thread(sha256_hex, data) if large else sha256_hex(data)
        if found != self.sha:
            self.start_over()
            raise MeshError(f"the bytes that came are not {self.sha[:12]}")
        return data
