"""The cache of compiled modules: native code, so only files this machine signed are used."""

import asyncio
import hashlib
import hmac
import json
import logging
import os
import platform
import threading
from collections import OrderedDict
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from swarm_hub.util.files import load_or_create_key, write_atomic

from .child.variants import SETTINGS

_LOGGER = logging.getLogger(__name__)

CACHE_KEY_FILE = "cache.key"
CACHE_KEY = "module cache key"
_SUFFIX = ".native"
_TAG_BYTES = 32


@lru_cache(maxsize=1024)
def cache_key(module_sha: str, variant: str) -> str:
    """Name the native code of a module: another wasmtime, setting or machine has another name."""
    parts = [
        module_sha,
        metadata.version("wasmtime"),
        platform.machine(),
        variant,
        SETTINGS[variant],
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class ModuleCache:
    """Signed files in a private directory; the least recently used are removed to make room."""

    def __init__(self, directory: Path, *, size_bytes_max: int) -> None:
        self._directory = directory
        self._size_bytes_max = size_bytes_max
        self._secret = b""
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._total_bytes = 0
        # The methods below run in the executor's threads, several at a time.
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """The total size of the files."""
        return self._total_bytes

    def __contains__(self, key: str) -> bool:
        """Whether there is a file of that name; what is in it is not looked at."""
        return key in self._sizes

    def bound(self, size_bytes_max: int) -> None:
        """Keep at most so much; what is above goes with the next module that is kept."""
        self._size_bytes_max = size_bytes_max

    async def open(self) -> None:
        """Create the directory and the key, and learn which files are there."""
        await asyncio.to_thread(self._open)

    async def get(self, key: str) -> bytes | None:
        """Return the native code, or None; a file that was changed is removed."""
        return await asyncio.to_thread(self._get, key)

    async def put(self, key: str, native: bytes) -> None:
        """Keep native code that a child of this hub just made."""
        await asyncio.to_thread(self._put, key, native)

    async def drop(self, key: str) -> None:
        """Forget native code that could not be used."""
        await asyncio.to_thread(self._forget, key)

    def _open(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._directory.chmod(0o700)
        self._secret = load_or_create_key(self._directory / CACHE_KEY_FILE, CACHE_KEY)
        found = []
        for path in self._directory.glob("*" + _SUFFIX):
            status = path.stat()
            found.append((status.st_mtime, path.stem, status.st_size))
        for path in self._directory.glob(".*.tmp"):
            path.unlink(missing_ok=True)
        with self._lock:
            self._sizes = OrderedDict((key, size) for _, key, size in sorted(found))
            self._total_bytes = sum(self._sizes.values())
        self._evict()

    def _get(self, key: str) -> bytes | None:
        path = self._path(key)
        try:
            content = path.read_bytes()
            os.utime(path)
        except OSError:
            self._forget(key)
            return None
        tag, native = content[:_TAG_BYTES], content[_TAG_BYTES:]
        if not hmac.compare_digest(tag, self._tag(key, native)):
            self._forget(key)
            return None
        with self._lock:
            if key in self._sizes:
                self._sizes.move_to_end(key)
        return native

    def _put(self, key: str, native: bytes) -> None:
        if len(native) + _TAG_BYTES > self._size_bytes_max:
            return
        # Not durable: a file that a crash cut short fails the check of its tag and is made again.
        content = self._tag(key, native) + native
        try:
            write_atomic(self._path(key), content, mode=0o600, durable=False)
        except OSError as err:
            _LOGGER.warning("A compiled module can't be kept and will be compiled again: %s", err)
            return
        with self._lock:
            self._total_bytes += len(content) - self._sizes.pop(key, 0)
            self._sizes[key] = len(content)
        self._evict()

    def _evict(self) -> None:
        while True:
            with self._lock:
                if self._total_bytes <= self._size_bytes_max or not self._sizes:
                    return
                oldest = next(iter(self._sizes))
            self._forget(oldest)

    def _forget(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)
        with self._lock:
            self._total_bytes -= self._sizes.pop(key, 0)

    def _tag(self, key: str, native: bytes) -> bytes:
        # The key is signed too, so that a file can't stand in for another module.
        signer = hmac.new(self._secret, key.encode() + b"\0", hashlib.sha256)
        signer.update(native)
        return signer.digest()

    def _path(self, key: str) -> Path:
        return self._directory / (key + _SUFFIX)
