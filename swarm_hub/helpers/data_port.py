"""Bytes by their hash: what `content` offers and the API asks, without either importing the other.

A worker may offer it without an API, and must not pay for importing one.
"""

import mmap
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from swarm_hub.core import HubKey


class DataPort(Protocol):
    """Blobs that this hub has, or can get from others."""

    def reading(self, sha: str) -> AbstractAsyncContextManager[bytes | mmap.mmap]:
        """Give the verified bytes to read from; raises RequestError 404 when nobody has them."""


DATA: Final = HubKey[DataPort]("data")
