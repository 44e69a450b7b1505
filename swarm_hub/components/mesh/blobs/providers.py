"""Who has which blob, asked of every transport of a hub at once."""

import asyncio
import logging

from swarm_hub.components.mesh.transports.base import PROVIDERS_MAX, Provider, ProviderRecords
from swarm_hub.components.mesh.transports.registry import Transports
from swarm_hub.exceptions import MeshError

_LOGGER = logging.getLogger(__name__)


class BlobRoutes:
    """Tells others what this hub has, and finds who has what; off until `enable`."""

    def __init__(self, transports: Transports) -> None:
        self._transports = transports
        self._recording = [each for each in transports if isinstance(each, ProviderRecords)]

    def enable(self) -> None:
        """Take part; call it before the mesh starts."""
        for transport in self._recording:
            transport.content = True

    async def provide(self, sha: str) -> None:
        """Let others find out that this hub has a blob; raises MeshError while it can't."""
        for transport in self._recording:
            await transport.provide(sha)

    async def withdraw(self, sha: str) -> None:
        """Stop announcing that this hub has a blob; raises MeshError while it can't."""
        for transport in self._recording:
            await transport.withdraw(sha)

    async def find(self, sha: str) -> list[Provider]:
        """Return other peers that are said to have a blob, in bounded time; there may be none."""
        answers = await asyncio.gather(
            *(transport.find_providers(sha) for transport in self._recording),
            return_exceptions=True,
        )
        found: dict[str, Provider] = {}
        for answer in answers:
            if isinstance(answer, MeshError):
                _LOGGER.debug("One transport can't say who has %s: %s", sha[:12], answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found |= {each.peer_id: each for each in answer if each.peer_id not in found}
        return list(found.values())[:PROVIDERS_MAX]

    async def dial(self, provider: Provider) -> None:
        """Open a session with a provider; raises MeshError when none of its addresses answers."""
        problem: MeshError | None = None
        for address in provider.addresses:
            try:
                await self._transports.dial(address)
            except MeshError as error:
                problem = error
            else:
                return
        raise problem or MeshError(f"it is not known where {provider.peer_id} can be reached")
