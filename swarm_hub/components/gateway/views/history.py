"""The view of the last hour."""

from swarm_hub.components.gateway.nodes.history import Histories
from swarm_hub.components.gateway.shapes import TelemetryHistory
from swarm_hub.endpoints import Json, Request, Scope, View, text


def view(histories: Histories) -> View:
    """Return the view."""

    async def history(request: Request) -> Json:
        """Return what a node measured in the last hour, or without `node` what the swarm did."""
        node_id = request.query.get("node")
        return Json(histories.swarm() if node_id is None else histories.node(node_id))

    query = {"node": text(200, min_length=1)}
    return View("GET", "/telemetry/history", history, Scope.READ, TelemetryHistory, query)
