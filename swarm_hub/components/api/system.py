"""Routes about the hub itself."""

from typing import Any

from aiohttp import web

from swarm_hub.components.api.ports import NODES
from swarm_hub.components.api.replies import json_response
from swarm_hub.components.sandbox import SANDBOX
from swarm_hub.const import __version__
from swarm_hub.core import Hub


def routes(hub: Hub) -> list[web.RouteDef]:
    """Return the routes."""

    async def health(_request: web.Request) -> web.Response:
        nodes = hub.services.get(NODES)
        content = {
            "name": hub.name,
            "version": __version__,
            "state": hub.state.value,
            "roles": sorted(hub.roles),
            "last_seq": hub.store.last_seq,
            "disk_full": hub.store.full,
            "sandbox": _sandbox(hub),
            **({} if nodes is None else nodes.counts()),
        }
        return json_response(content)

    return [web.get("/api/v1/health", health)]


def _sandbox(hub: Hub) -> dict[str, Any] | None:
    service = hub.services.get(SANDBOX)
    fence = None if service is None else service.sandbox.stats().fence
    if fence is None:
        return None
    return {"in_force": dict(fence.in_force), "absent": dict(fence.absent)}
