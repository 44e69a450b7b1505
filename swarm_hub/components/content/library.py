"""Gives result blobs to admitted peers whose signing key this hub trusts, and to nobody else."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from swarm_hub.components.mesh import Hello, Mesh, Readable
from swarm_hub.components.signer import EnvelopeChannel
from swarm_hub.core import Hub
from swarm_hub.exceptions import MeshError, StoreError
from swarm_hub.storage.queries import content
from swarm_hub.util.hashing import SHA256_HEX

HAVE: Final = "have"
# The same answer to all who get nothing, so that nobody learns what this hub has.
_NOT_HERE: Final = "not here"
_ANSWERED_AT_ONCE: Final = 32


class Library:
    """Answers `have` and `need` of trusted peers from the results in this hub's store."""

    def __init__(self, hub: Hub, mesh: Mesh, channel: EnvelopeChannel) -> None:
        self._hub = hub
        self._mesh = mesh
        self._channel = channel
        self._answering = 0
        mesh.on(HAVE, self._on_have)
        mesh.serve_blobs(self._serve)

    def is_companion(self, hello: Hello) -> bool:
        """Whether to stay connected to a peer for its results alone."""
        return "content" in hello.capabilities and self._trusts(hello)

    def _trusts(self, hello: Hello | None) -> bool:
        key = None if hello is None else hello.public_key
        return key is not None and self._channel.trusts(key)

    def _on_have(self, peer_id: str, fields: Mapping[str, Any]) -> None:
        ask, sha = fields["ask"], fields["sha"]
        if type(ask) is not int or not isinstance(sha, str) or not SHA256_HEX.match(sha):
            raise ValueError("have without a hash or without ask")
        if self._answering >= _ANSWERED_AT_ONCE:
            self._reply(peer_id, {"ask": ask, "error": "busy"})
        elif not self._trusts(self._mesh.peers().get(peer_id)):
            self._reply(peer_id, {"ask": ask, "error": _NOT_HERE})
        else:
            self._answering += 1
            self._hub.tasks.spawn(self._answer(peer_id, ask, sha), "answer have")

    async def _answer(self, peer_id: str, ask: int, sha: str) -> None:
        try:
            size = await self._hub.store.read(content.result_size, sha)
            answer = {"error": _NOT_HERE} if size is None else {"size": size}
        except StoreError as error:
            answer = {"error": str(error)}
        finally:
            self._answering -= 1
        self._reply(peer_id, {"ask": ask, **answer})

    def _reply(self, peer_id: str, fields: Mapping[str, Any]) -> None:
        try:
            self._mesh.send(peer_id, "reply", fields)
        except MeshError:
            # The peer disconnected, or asks faster than it reads the answers.
            return

    @asynccontextmanager
    async def _serve(self, peer_id: str, sha: str) -> AsyncIterator[Readable | None]:
        if (
            not self._trusts(self._mesh.peers().get(peer_id))
            or await self._hub.store.read(content.result_size, sha) is None
        ):
            yield None
            return
        async with self._hub.store.blobs.reading(sha) as result:
            yield result
