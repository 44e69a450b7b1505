"""Routes of nodes, and of the networks that are banned."""

import math
from typing import Any, Final, TypeVar

from aiohttp import web

from swarm_hub.components.api.ports import NETWORKS, NODES, NetworksPort, NodesPort
from swarm_hub.components.api.replies import json_response
from swarm_hub.core import Hub, HubKey
from swarm_hub.exceptions import RequestError
from swarm_hub.util.strict_json import parse_json

_T = TypeVar("_T")

_REASON_MAX: Final = 200
_BAN_MAX_S: Final = 10 * 365 * 24 * 3600.0


def routes(hub: Hub) -> list[web.RouteDef]:
    """Return the routes; they answer 503 on a hub that is no gateway."""
    views = _NodeViews(hub)
    return [
        web.get("/api/v1/nodes", views.list),
        web.post("/api/v1/nodes/{node_id}/ban", views.ban),
        web.post("/api/v1/nodes/{node_id}/unban", views.unban),
        web.post("/api/v1/nodes/{node_id}/drain", views.drain),
        web.post("/api/v1/nodes/{node_id}/undrain", views.undrain),
        web.get("/api/v1/networks", views.networks),
        web.post("/api/v1/networks/ban", views.ban_network),
        web.post("/api/v1/networks/unban", views.unban_network),
        web.post("/api/v1/nodes/{node_id}/approve", views.approve),
    ]


class _NodeViews:
    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    @property
    def _nodes(self) -> NodesPort:
        return self._offered(NODES)

    @property
    def _networks(self) -> NetworksPort:
        return self._offered(NETWORKS)

    def _offered(self, key: HubKey[_T]) -> _T:
        service = self._hub.services.get(key)
        if service is None:
            raise RequestError(503, "no_gateway", "this hub is no gateway; ask the one that is")
        return service

    async def list(self, _request: web.Request) -> web.Response:
        return json_response({"nodes": await self._nodes.list()})

    async def ban(self, request: web.Request) -> web.Response:
        content = await _content(request)
        node_id = request.match_info["node_id"]
        node = await self._nodes.ban(node_id, _reason(content), _for_s(content))
        return json_response(node)

    async def unban(self, request: web.Request) -> web.Response:
        await self._nodes.unban(request.match_info["node_id"])
        return json_response({"node_id": request.match_info["node_id"], "state": "down"})

    async def approve(self, request: web.Request) -> web.Response:
        await self._nodes.approve(request.match_info["node_id"])
        return json_response({"node_id": request.match_info["node_id"], "state": "approved"})

    async def drain(self, request: web.Request) -> web.Response:
        content = await _content(request)
        return json_response(
            await self._nodes.drain(request.match_info["node_id"], _reason(content))
        )

    async def undrain(self, request: web.Request) -> web.Response:
        return json_response(await self._nodes.undrain(request.match_info["node_id"]))

    async def networks(self, _request: web.Request) -> web.Response:
        return json_response({"networks": await self._networks.banned()})

    async def ban_network(self, request: web.Request) -> web.Response:
        content = await _content(request)
        force = content.get("force", False)
        if not isinstance(force, bool):
            raise _wrong("force", f"expected true or false, got {force!r:.50}")
        return json_response(
            await self._networks.ban(
                _network(content), _reason(content), _for_s(content), force=force
            )
        )

    async def unban_network(self, request: web.Request) -> web.Response:
        network = _network(await _content(request))
        await self._networks.unban(network)
        return json_response({"network": network})


async def _content(request: web.Request) -> dict[str, Any]:
    """Return the JSON object of a request; an empty body is an empty one."""
    raw = await request.read()
    content = parse_json(raw, "request") if raw else {}
    if not isinstance(content, dict):
        raise RequestError(400, "invalid_request", "request: expected a JSON object")
    return content


def _reason(content: dict[str, Any]) -> str:
    return str(content.get("reason", ""))[:_REASON_MAX]


def _for_s(content: dict[str, Any]) -> float | None:
    """Return how long a ban lasts in seconds, None for ever."""
    value = content.get("for_s")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong("for_s", f"expected seconds, got {value!r:.50}")
    if not math.isfinite(value) or not 0 < value <= _BAN_MAX_S:
        raise _wrong("for_s", f"expected seconds from 1 to ten years, got {value!r:.50}")
    return float(value)


def _network(content: dict[str, Any]) -> str:
    value = content.get("network")
    if not isinstance(value, str):
        raise _wrong("network", f"expected a network such as 10.1.0.0/16, got {value!r:.50}")
    return value


def _wrong(path: str, message: str) -> RequestError:
    return RequestError(
        422, "invalid_request", f"{path}: {message}", [{"path": path, "message": message}]
    )
