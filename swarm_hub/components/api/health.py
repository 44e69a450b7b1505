"""The views of the hub's own health: in full, and for whoever only restarts or routes."""

from typing import Any, Final, TypedDict

from swarm_hub.const import __version__
from swarm_hub.core import Hub, HubState
from swarm_hub.endpoints import Json, Request, Scope, Success, View
from swarm_hub.exceptions import ProblemShape

_GOOD_OR_BAD: Final = (Success.OK, Success.NOT_OK)


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
    needs_restart: list[str]


class CustomShape(TypedDict):
    """A component or a platform that is not a part of swarm_hub, and whether it runs."""

    name: str
    version: str | None
    platform_of: str | None
    overrides: bool
    state: str
    message: str | None


class HealthShape(_Health, total=False):
    """The hub's health; components add the optional fields.

    `needs_restart` are keys of the configuration whose new values wait for one since a reload,
    `recovery` is what keeps the configuration from being used.
    """

    custom_components: list[CustomShape]
    safe_mode: bool

    sandbox: FenceShape | None
    recovery: list[ProblemShape]
    nodes: int
    slots: int


class LiveShape(TypedDict):
    """The hub answers."""

    ok: bool


class _Ready(TypedDict):
    ok: bool
    waits_for: list[str]


class ReadyShape(_Ready, total=False):
    """Whether the hub does its work; with a token also why not."""

    problems: list[str]


def health_views(hub: Hub) -> tuple[View, ...]:
    """Return the views."""

    async def health(_request: Request) -> Json:
        """Return the state of the hub and of what it runs; 503 if a part is stuck, or none runs."""
        stuck = await hub.watchdog.stuck()
        problems = await hub.repairs.problems()
        own: HealthShape = {
            "name": hub.name,
            "version": __version__,
            "state": hub.state.value,
            "ok": not (stuck or hub.state is HubState.RECOVERY),
            "problems": problems,
            "roles": sorted(hub.roles),
            "last_seq": hub.store.last_seq,
            "disk_full": hub.store.full,
            "needs_restart": list(hub.needs_restart),
        }
        success = Success.OK if own["ok"] else Success.NOT_OK
        return Json({**own, **hub.endpoints.health()}, success)

    async def live(_request: Request) -> Json:
        """Answer, which is all that whoever would restart the hub has to know."""
        shape: LiveShape = {"ok": True}
        return Json(shape)

    async def ready(request: Request) -> Json:
        """Return whether the hub does its work, which is what a load balancer asks; 503 with why.

        It costs no statement of the store: it tells what the parts of the hub saw last.
        """
        waits_for = [] if hub.state is HubState.RUNNING else [f"the hub is {hub.state}"]
        if (away_s := hub.store.away_s) is not None:
            waits_for.append(f"the store, for {away_s:.0f} s")
        for not_ready in hub.not_ready:
            waits_for += not_ready()
        waits_for += await hub.watchdog.stuck()
        shape: ReadyShape = {"ok": not waits_for, "waits_for": waits_for}
        if request.caller is not None:
            shape["problems"] = await hub.watchdog.problems()
        return Json(shape, Success.OK if shape["ok"] else Success.NOT_OK)

    return (
        View("GET", "/health", health, Scope.READ, HealthShape, successes=_GOOD_OR_BAD),
        View("GET", "/health/live", live, Scope.PUBLIC, LiveShape),
        View("GET", "/health/ready", ready, Scope.PUBLIC, ReadyShape, successes=_GOOD_OR_BAD),
    )
