"""Routes of invitations."""

from typing import Any, Final

from aiohttp import web

from swarm_hub.components.api.ports import INVITES, InvitesPort
from swarm_hub.components.api.replies import json_response
from swarm_hub.core import Hub
from swarm_hub.exceptions import RequestError
from swarm_hub.util.strict_json import parse_json

_OWNER_MAX: Final = 64
_EXPIRES_S: Final = 3600.0


def routes(hub: Hub) -> list[web.RouteDef]:
    """Return the routes; they answer 503 on a hub that is no gateway."""
    views = _InviteViews(hub)
    return [
        web.get("/api/v1/invites", views.list),
        web.post("/api/v1/invites", views.create),
        web.delete("/api/v1/invites/{invite_id}", views.revoke),
    ]


class _InviteViews:
    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    @property
    def _invites(self) -> InvitesPort:
        service = self._hub.services.get(INVITES)
        if service is None:
            raise RequestError(503, "no_gateway", "this hub is no gateway; ask the one that is")
        return service

    async def list(self, _request: web.Request) -> web.Response:
        return json_response({"invites": await self._invites.list()})

    async def create(self, request: web.Request) -> web.Response:
        service = self._invites
        raw = await request.read()
        content: Any = parse_json(raw, "request") if raw else {}
        known = {"expires_s", "addresses", "owner"}
        if not isinstance(content, dict) or not content.keys() <= known:
            raise RequestError(422, "invalid_request", "expected {expires_s, addresses, owner}")
        expires_s, addresses = content.get("expires_s", _EXPIRES_S), content.get("addresses", [])
        if isinstance(expires_s, bool) or not isinstance(expires_s, int | float):
            raise RequestError(422, "invalid_request", "expires_s: expected seconds")
        if not isinstance(addresses, list) or not all(isinstance(each, str) for each in addresses):
            raise RequestError(422, "invalid_request", "addresses: expected a list of texts")
        owner = content.get("owner")
        if owner is not None and not (isinstance(owner, str) and 0 < len(owner) <= _OWNER_MAX):
            raise RequestError(
                422, "invalid_request", f"owner: expected a text of at most {_OWNER_MAX} characters"
            )
        return json_response(await service.create(float(expires_s), addresses, owner), status=201)

    async def revoke(self, request: web.Request) -> web.Response:
        invite_id = request.match_info["invite_id"]
        await self._invites.revoke(invite_id)
        return json_response({"id": invite_id, "state": "revoked"})
