"""The view of the hub's own health."""

from typing import Any, TypedDict

from swarm_hub.const import __version__
from swarm_hub.core import Hub
from swarm_hub.endpoints import Json, Request, Scope, Success, View


class FenceShape(TypedDict):
    """The limits that the kernel enforces on the sandbox, and the absent ones with the reason."""

    in_force: dict[str, Any]
    absent: dict[str, Any]


class _Health(TypedDict):
    name: str
    version: str
    state: str
    ok: bool
    problems: list[str]
    roles: list[str]
    last_seq: int
    disk_full: str | None


class HealthShape(_Health, total=False):
    """The hub's health; components add the optional fields."""

    sandbox: FenceShape | None
    nodes: int
    slots: int


def health_view(hub: Hub) -> View:
    """Return the view."""

    async def health(_request: Request) -> Json:
        """Return the state of the hub and of what it runs; 503 if a part of it is stuck."""
        stuck = await hub.watchdog.problems()
        clock = hub.clock.problem()
        problems = [*stuck, *([] if clock is None else [clock])]
        own: HealthShape = {
            "name": hub.name,
            "version": __version__,
            "state": hub.state.value,
            "ok": not stuck,
            "problems": problems,
            "roles": sorted(hub.roles),
            "last_seq": hub.store.last_seq,
            "disk_full": hub.store.full,
        }
        success = Success.NOT_OK if stuck else Success.OK
        return Json({**own, **hub.endpoints.health()}, success)

    return View("GET", "/health", health, Scope.READ, HealthShape)
