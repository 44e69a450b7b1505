"""Whom a hub of this process is connected to."""

from swarm_hub.components.mesh import MESH
from tests.conftest import RunningHub


async def peers_of(running: RunningHub) -> set[str]:
    """Return whom a hub of this process is connected to."""
    return set(running.hub.services[MESH].peers())
