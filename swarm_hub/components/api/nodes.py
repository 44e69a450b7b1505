"""Routes of nodes."""

from aiohttp import web

from swarm_hub.components.api.ports import NODES, NodesPort
from swarm_hub.components.api.replies import json_response
from swarm_hub.core import Hub
from swarm_hub.exceptions import RequestError
from swarm_hub.util.strict_json import parse_json


def routes(hub: Hub) -> list[web.RouteDef]:
    """Return the routes; they answer 503 on a hub that is no gateway."""
    views = _NodeViews(hub)
    return [
        web.get("/api/v1/nodes", views.list),
        web.post("/api/v1/nodes/{node_id}/ban", views.ban),
        web.post("/api/v1/nodes/{node_id}/unban", views.unban),
        web.post("/api/v1/nodes/{node_id}/approve", views.approve),
    ]


class _NodeViews:
    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    @property
    def _nodes(self) -> NodesPort:
        service = self._hub.services.get(NODES)
        if service is None:
            raise RequestError(503, "no_gateway", "this hub is no gateway; ask the one that is")
        return service

    async def list(self, _request: web.Request) -> web.Response:
        return json_response({"nodes": await self._nodes.list()})

    async def ban(self, request: web.Request) -> web.Response:
        raw = await request.read()
        content = parse_json(raw, "request") if raw else {}
        reason = content.get("reason", "") if isinstance(content, dict) else ""
        await self._nodes.ban(request.match_info["node_id"], str(reason)[:200])
        return json_response({"node_id": request.match_info["node_id"], "state": "banned"})

    async def unban(self, request: web.Request) -> web.Response:
        await self._nodes.unban(request.match_info["node_id"])
        return json_response({"node_id": request.match_info["node_id"], "state": "down"})

    async def approve(self, request: web.Request) -> web.Response:
        await self._nodes.approve(request.match_info["node_id"])
        return json_response({"node_id": request.match_info["node_id"], "state": "approved"})
