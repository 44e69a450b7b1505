"""Finding and fetching a blob: connected peers are asked first, then those the DHT names.

Nothing they say is believed: the bytes are taken only if they hash to their name, and a peer that
sends other bytes is skipped for the next.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Iterable
from typing import Final

from swarm_hub.components.content.library import HAVE
from swarm_hub.components.mesh import Mesh, PeerGone, PeerUp, Provider
from swarm_hub.core import Hub
from swarm_hub.exceptions import MeshError, NotFound

_LOGGER = logging.getLogger(__name__)

_ASKED_MAX: Final = 32
_ASK_TIMEOUT_S: Final = 3.0
_REACH_TIMEOUT_S: Final = 5.0
# This many may turn out to be wrong; each has this long, and longer only for large blobs.
_TRIES_MAX: Final = 8
_TRANSFER_MIN_S: Final = 10.0
_SLOWEST_BYTES_PER_S: Final = 256 * 1024
_AT_ONCE: Final = 2

_Offer = tuple[str, int]


class Search:
    """Gets blobs from the hubs that have them."""

    def __init__(self, hub: Hub, mesh: Mesh, max_bytes: int) -> None:
        self._hub = hub
        self._mesh = mesh
        self._max_bytes = max_bytes
        self._transfers = asyncio.Semaphore(_AT_ONCE)

    def bound(self, max_bytes: int) -> None:
        """Fetch blobs up to this size from now on."""
        self._max_bytes = max_bytes

    async def fetch(self, sha: str) -> bytes:
        """Return the bytes with that hash; raises NotFound in bounded time."""
        problems: list[str] = []
        asked = tries = 0
        async for offers in self._rounds(sha):
            asked += len(offers)
            for peer_id, size_bytes in _sound(offers, self._max_bytes, problems):
                if (tries := tries + 1) > _TRIES_MAX:
                    break
                try:
                    async with self._transfers, asyncio.timeout(_allowed_s(size_bytes)):
                        return await self._mesh.fetch(peer_id, sha, size_bytes)
                except (MeshError, TimeoutError) as error:
                    text = str(error) or "too slow"
                    _LOGGER.warning("%s did not give %s: %s", peer_id, sha[:12], text)
                    problems.append(f"{peer_id}: {text}")
        said = "; ".join(problems[:5])
        raise NotFound(
            "not_found",
            f"none of {asked} hubs that could be asked gives out {sha}" + (said and f": {said}"),
        )

    async def _rounds(self, sha: str) -> AsyncIterator[list[_Offer | MeshError]]:
        """Yield what peers answered: first those connected, then those found."""
        connected = [
            peer_id
            for peer_id, hello in self._mesh.peers().items()
            if "content" in hello.capabilities and peer_id != self._mesh.peer_id
        ][:_ASKED_MAX]
        yield await _answers(self._ask(peer_id, sha) for peer_id in connected)
        found = [
            each for each in await self._mesh.routes.find(sha) if each.peer_id not in connected
        ]
        yield await _answers(self._reach(provider, sha) for provider in found)

    async def _ask(self, peer_id: str, sha: str) -> _Offer:
        """Return what a peer offers; raises MeshError when it has nothing for this hub."""
        reply = await self._mesh.request(peer_id, HAVE, {"sha": sha}, _ASK_TIMEOUT_S)
        size_bytes = reply.get("size")
        if type(size_bytes) is not int or size_bytes <= 0:
            raise MeshError(f"{peer_id} answered have with no size")
        return peer_id, size_bytes

    async def _reach(self, provider: Provider, sha: str) -> _Offer:
        peer_id = provider.peer_id
        admitted = asyncio.Event()
        stop = self._hub.bus.listen(
            PeerUp, lambda up: admitted.set() if up.peer_id == peer_id else None
        )
        try:
            async with asyncio.timeout(_REACH_TIMEOUT_S):
                if peer_id not in self._mesh.peers():
                    await self._mesh.routes.dial(provider)
                if peer_id not in self._mesh.peers():
                    await admitted.wait()
        except TimeoutError:
            raise MeshError(
                f"{peer_id} was not reached within {_REACH_TIMEOUT_S:.0f} s; do both hubs have "
                "the other's key in signer: trust?"
            ) from None
        finally:
            stop()
        try:
            return await self._ask(peer_id, sha)
        except MeshError as error:
            if peer_id in self._mesh.peers() and not isinstance(error, PeerGone):
                raise
            raise MeshError(
                f"{peer_id} left at once; is this hub's key in its signer: trust?"
            ) from error


async def _answers(asking: Iterable[Awaitable[_Offer]]) -> list[_Offer | MeshError]:
    """Return every answer, a refusal as its error."""
    answers: list[_Offer | MeshError] = []
    for answer in await asyncio.gather(*asking, return_exceptions=True):
        if isinstance(answer, BaseException) and not isinstance(answer, MeshError):
            raise answer
        answers.append(answer)
    return answers


def _sound(answers: list[_Offer | MeshError], max_bytes: int, problems: list[str]) -> list[_Offer]:
    """Return the offers worth trying, cheapest to disprove first; note why others aren't."""
    offers: list[_Offer] = []
    for answer in answers:
        if isinstance(answer, MeshError):
            problems.append(str(answer))
        elif answer[1] > max_bytes:
            problems.append(f"{answer[0]} has {answer[1]} bytes, content: max is {max_bytes} bytes")
        else:
            offers.append(answer)
    return sorted(offers, key=lambda offer: offer[1])


def _allowed_s(size_bytes: int) -> float:
    return _TRANSFER_MIN_S + size_bytes / _SLOWEST_BYTES_PER_S
