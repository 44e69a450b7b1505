"""Views of nodes."""

from typing import Any, Final

import voluptuous as vol

from swarm_hub.components.gateway.nodes.fleet import Fleet
from swarm_hub.components.gateway.shapes import NodeDetails, Nodes, NodeState
from swarm_hub.endpoints import Json, Request, Scope, View
from swarm_hub.helpers import config_validation as cv
from swarm_hub.models.node import LABEL_MAX_CHARS, LABELS_MAX
from swarm_hub.util.bounds import is_number, is_text, shown
from swarm_hub.util.described import described

_REASON_MAX: Final = 200
_BAN_MIN_S: Final = 0.001
_BAN_MAX_S: Final = 10 * 365 * 24 * 3600.0


@described({"type": "string"})
def reason(value: Any) -> str:
    """Validate a reason: a text, cut to 200 characters."""
    if not is_text(value):
        raise vol.Invalid(f"expected a text, got {shown(value)}")
    return str(value)[:_REASON_MAX]


@described({"type": ["number", "null"], "minimum": _BAN_MIN_S, "maximum": _BAN_MAX_S})
def for_s(value: Any) -> float | None:
    """Validate how long a ban lasts in seconds, None for no end."""
    if value is None:
        return None
    if not is_number(value, _BAN_MIN_S, _BAN_MAX_S):
        raise vol.Invalid(f"expected seconds, from 0.001 to ten years, got {shown(value)}")
    return float(value)


@described(
    {
        "type": "object",
        "minProperties": 1,
        "maxProperties": LABELS_MAX,
        "additionalProperties": {"type": ["string", "null"], "maxLength": LABEL_MAX_CHARS},
        "examples": [{"gpu": "yes", "place": None}],
    }
)
def changed_labels(value: Any) -> dict[str, str | None]:
    """Validate labels to set, each with a text, or with null for one that is to go."""
    if not isinstance(value, dict) or not value:
        raise vol.Invalid(f"expected 1 to {LABELS_MAX} names, each with a text or null")
    cv.labels({name: "" if text is None else text for name, text in value.items()})
    return dict(value)


REASON: Final[dict[Any, Any]] = {vol.Optional("reason", default=""): reason}
LABEL: Final[dict[Any, Any]] = {vol.Required("labels"): changed_labels}
BAN: Final[dict[Any, Any]] = {**REASON, vol.Optional("for_s", default=None): for_s}


def views(fleet: Fleet) -> list[View]:
    """Return the views."""
    own, node, admin = _NodeViews(fleet), "/nodes/{node_id}", Scope.ADMIN
    ban = vol.Schema(BAN, extra=vol.REMOVE_EXTRA)
    drain = vol.Schema(REASON, extra=vol.REMOVE_EXTRA)
    label = vol.Schema(LABEL, extra=vol.REMOVE_EXTRA)
    return [
        View("GET", "/nodes", own.list, Scope.READ, Nodes),
        View("POST", f"{node}/ban", own.ban, admin, NodeDetails, body=ban),
        View("POST", f"{node}/unban", own.unban, admin, NodeState),
        View("POST", f"{node}/drain", own.drain, admin, NodeDetails, body=drain),
        View("POST", f"{node}/undrain", own.undrain, admin, NodeDetails),
        View("POST", f"{node}/label", own.label, admin, NodeDetails, body=label),
        View("POST", f"{node}/approve", own.approve, admin, NodeState),
    ]


class _NodeViews:
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def list(self, _request: Request) -> Json:
        """List every node this gateway has met."""
        nodes: Nodes = {"nodes": await self._fleet.list()}
        return Json(nodes)

    async def ban(self, request: Request) -> Json:
        """Ban a node, forever or for a given time."""
        body = request.body
        return Json(await self._fleet.ban(request.path["node_id"], body["reason"], body["for_s"]))

    async def unban(self, request: Request) -> Json:
        """Lift a node's ban."""
        await self._fleet.unban(request.path["node_id"])
        state: NodeState = {"node_id": request.path["node_id"], "state": "down"}
        return Json(state)

    async def drain(self, request: Request) -> Json:
        """Keep a node from new work."""
        return Json(await self._fleet.drain(request.path["node_id"], request.body["reason"]))

    async def undrain(self, request: Request) -> Json:
        """Give a node work again."""
        return Json(await self._fleet.undrain(request.path["node_id"]))

    async def label(self, request: Request) -> Json:
        """Give a node labels beside those that it brings; null takes one away."""
        return Json(await self._fleet.label(request.path["node_id"], request.body["labels"]))

    async def approve(self, request: Request) -> Json:
        """Admit a node that waits."""
        await self._fleet.approve(request.path["node_id"])
        state: NodeState = {"node_id": request.path["node_id"], "state": "approved"}
        return Json(state)
