"""The view of the gateways that share this store."""

from swarm_hub.components.gateway.nodes.gateways import Gateways
from swarm_hub.components.gateway.shapes import GatewayList
from swarm_hub.endpoints import Json, Request, Scope, View


def view(gateways: Gateways) -> View:
    """Return the view."""

    async def list_them(_request: Request) -> Json:
        """List the gateways of this swarm that live, and where each is reached."""
        found: GatewayList = {"gateways": await gateways.list()}
        return Json(found)

    return View("GET", "/gateways", list_them, Scope.READ, GatewayList)
