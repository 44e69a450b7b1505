"""What clients may ask of the worker of the hub whose API they speak with: look, pause, resume."""

from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import voluptuous as vol

from swarm_hub.components.worker.owners_pause import LONGEST_S, OwnersPause
from swarm_hub.endpoints import Json, Request, Scope, View
from swarm_hub.util.bounds import is_number, shown
from swarm_hub.util.clock import isoformat
from swarm_hub.util.described import described

_SHORTEST_S = 0.001


class PauseShape(TypedDict):
    """A pause; `until` is None if it lasts until it is ended."""

    until: str | None


class DataToday(TypedDict):
    """How much of a day's data the mesh has used."""

    used_bytes: int
    limit_bytes: int


class WorkerStatus(TypedDict):
    """What this worker does, and why it takes no work, or less, if it does."""

    running: list[str]
    waiting: int
    to_deliver: int
    paused: PauseShape | None
    refuses: str | None
    slots: int
    slower: str | None
    data_today: DataToday | None
    drained_by: dict[str, str]
    runtimes: dict[str, str]


@described({"type": ["number", "null"], "minimum": _SHORTEST_S, "maximum": LONGEST_S})
def for_s(value: Any) -> float | None:
    """Validate how long a pause lasts in seconds, None for no end."""
    if value is None:
        return None
    if not is_number(value, _SHORTEST_S, LONGEST_S):
        raise vol.Invalid(f"expected seconds, from 0.001 to 365 days, got {shown(value)}")
    return float(value)


def views(pause: OwnersPause, status: Callable[[], Mapping[str, Any]]) -> list[View]:
    """Return the views; `status` gives what the command `status` says of the worker."""
    own, admin = _WorkerViews(pause, status), Scope.ADMIN
    how_long = vol.Schema({vol.Optional("for_s", default=None): for_s}, extra=vol.REMOVE_EXTRA)
    return [
        View("GET", "/worker", own.show, Scope.READ, WorkerStatus),
        View("POST", "/worker/pause", own.pause, admin, WorkerStatus, body=how_long),
        View("POST", "/worker/resume", own.resume, admin, WorkerStatus),
    ]


class _WorkerViews:
    def __init__(self, pause: OwnersPause, status: Callable[[], Mapping[str, Any]]) -> None:
        self._pause = pause
        self._status = status

    async def show(self, _request: Request) -> Json:
        """Tell what this hub's own worker does."""
        return Json(self._shape())

    async def pause(self, request: Request) -> Json:
        """Have this hub's own worker take no work, for a time or until it is resumed."""
        await self._pause.pause({"for_s": request.body["for_s"]})
        return Json(self._shape())

    async def resume(self, _request: Request) -> Json:
        """End the pause of this hub's own worker."""
        await self._pause.resume({})
        return Json(self._shape())

    def _shape(self) -> WorkerStatus:
        found = self._status()
        paused: PauseShape | None = None
        if found["paused"] is not None:
            until = found["paused"]["until"]
            paused = {"until": None if until is None else isoformat(until)}
        return {**found, "paused": paused}  # type: ignore[typeddict-item]
