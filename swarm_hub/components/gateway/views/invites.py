"""Views of invitations."""

import asyncio
from typing import Any, Final

import voluptuous as vol

from swarm_hub.components.gateway.nodes.invitations import Invitations, qr_rows
from swarm_hub.components.gateway.shapes import Invites, NewInvite, RevokedInvite
from swarm_hub.endpoints import Json, Request, Scope, Success, View, text
from swarm_hub.exceptions import Conflict, Unavailable
from swarm_hub.util.bounds import DURATION_MAX_S, is_number, is_text, shown
from swarm_hub.util.described import described

_OWNER_MAX: Final = 64
_EXPIRES_S: Final = 3600.0
_ADDRESSES_MAX: Final = 100
_ADDRESS_MAX: Final = 1000


@described({"type": "number", "minimum": -DURATION_MAX_S, "maximum": DURATION_MAX_S})
def _seconds(value: Any) -> float:
    if not is_number(value, -DURATION_MAX_S, DURATION_MAX_S):
        raise vol.Invalid(f"expected seconds, got {shown(value)}")
    return float(value)


@described(
    {
        "type": "array",
        "maxItems": _ADDRESSES_MAX,
        "items": {"type": "string", "maxLength": _ADDRESS_MAX},
    }
)
def _addresses(value: Any) -> list[str]:
    if (
        not isinstance(value, list)
        or len(value) > _ADDRESSES_MAX
        or not all(is_text(each, _ADDRESS_MAX) for each in value)
    ):
        raise vol.Invalid("expected a list of texts")
    return value


_BODY: Final = vol.Schema(
    {
        vol.Optional("expires_s", default=_EXPIRES_S): _seconds,
        vol.Optional("addresses", default=list): _addresses,
        vol.Optional("owner", default=None): vol.Any(None, text(_OWNER_MAX, min_length=1)),
        vol.Optional("qr", default=False): bool,
    }
)


def views(invitations: Invitations) -> list[View]:
    """Return the views."""
    own, admin = _InviteViews(invitations), Scope.ADMIN
    return [
        View("GET", "/invites", own.list, Scope.READ, Invites),
        View(
            "POST", "/invites", own.create, admin, NewInvite, body=_BODY,
            successes=(Success.CREATED,), errors=(Conflict, Unavailable),
        ),
        View(
            "DELETE", "/invites/{invite_id}", own.revoke, admin, RevokedInvite, errors=(Conflict,)
        ),
    ]  # fmt: skip


class _InviteViews:
    def __init__(self, invitations: Invitations) -> None:
        self._invitations = invitations

    async def list(self, _request: Request) -> Json:
        """List the invitations that are kept."""
        invites: Invites = {"invites": await self._invitations.list()}
        return Json(invites)

    async def create(self, request: Request) -> Json:
        """Make an invitation."""
        body = request.body
        made = await self._invitations.create(body["expires_s"], body["addresses"], body["owner"])
        if body["qr"]:
            # It takes tens of milliseconds, in which the hub does other things.
            made["qr"] = await asyncio.to_thread(qr_rows, made["link"])
        return Json(made, Success.CREATED)

    async def revoke(self, request: Request) -> Json:
        """Remove an invitation; who was admitted by it stays."""
        invite_id = request.path["invite_id"]
        await self._invitations.revoke(invite_id)
        revoked: RevokedInvite = {"id": invite_id, "state": "revoked"}
        return Json(revoked)
