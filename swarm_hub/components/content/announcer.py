"""Keeps what is announced in step with the store: the results in it, until they are removed."""

import asyncio
import logging
from typing import Final

from swarm_hub.components.mesh import PROVIDED_MAX, Mesh
from swarm_hub.core import Hub
from swarm_hub.exceptions import PASSING_ERRORS, MeshError
from swarm_hub.models.event import DurableEvent, EventType
from swarm_hub.storage.queries import content
from swarm_hub.util.within import within

_LOGGER = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 5.0
# Many jobs may end together.
_SETTLED_S: Final = 0.25
_CHANGES: Final = (EventType.JOB_COMPLETED, EventType.JOB_PRUNED)


class Announcer:
    """Provides the newest result blobs of this hub, and withdraws those that were removed."""

    def __init__(self, hub: Hub, mesh: Mesh) -> None:
        self._hub = hub
        self._mesh = mesh
        self._provided: set[str] = set()
        self._wake = asyncio.Event()
        hub.bus.listen(DurableEvent, self._on_event)

    async def start(self) -> None:
        """Start looking for new results."""
        self._hub.tasks.supervise(self._run, "content announcer")

    def _on_event(self, event: DurableEvent) -> None:
        if event.event_type in _CHANGES:
            self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._look()
            except (MeshError, *PASSING_ERRORS) as error:
                # The mesh comes up in the background, and the store may have to recover from a
                # failure first.
                _LOGGER.debug("What results are here is announced later: %s", error)
            # Results that wait on a worker have no event.
            if await within(_LOOK_EVERY_S, self._wake.wait()):
                await asyncio.sleep(_SETTLED_S)

    async def _look(self) -> None:
        wanted = await self._hub.store.read(content.result_blobs, PROVIDED_MAX)
        for sha in self._provided - wanted:
            await self._mesh.routes.withdraw(sha)
            self._provided.discard(sha)
        for sha in wanted - self._provided:
            await self._mesh.routes.provide(sha)
            self._provided.add(sha)
