"""What clients may ask of the repairs: see them, have one done, hide one."""

from typing import Final, TypedDict

import voluptuous as vol

from swarm_hub.endpoints import Json, Request, Scope, View
from swarm_hub.exceptions import Conflict, InvalidInput, NotFound, RequestError
from swarm_hub.helpers import config_validation as cv
from swarm_hub.repairs import Repairs, RepairShape

_ID: Final = {"repair_id": {"type": "string", "maxLength": 200}}


class RepairList(TypedDict):
    """What a person should do, the worst first."""

    repairs: list[RepairShape]


class Fixed(TypedDict):
    """Whether the repair is gone now; if not, its cause takes longer to go, or is still there."""

    id: str
    gone: bool


def views(repairs: Repairs) -> tuple[View, ...]:
    """Return the views."""

    async def shown(_request: Request) -> Json:
        """List what a person should do about this hub, also what is ignored."""
        answer: RepairList = {"repairs": [each.shape() for each in await repairs.look()]}
        return Json(answer)

    async def fix(request: Request) -> Json:
        """Do what the button of a repair does."""
        repair_id = request.path["repair_id"]
        answer: Fixed = {"id": repair_id, "gone": await repairs.fix(repair_id)}
        return Json(answer)

    async def ignore(request: Request) -> Json:
        """Hide a repair until it gets worse; with `ignored` false show it again."""
        standing = await repairs.ignore(request.path["repair_id"], request.body["ignored"])
        return Json(standing.shape())

    ignored = vol.Schema(
        {vol.Optional("ignored", default=True): cv.boolean}, extra=vol.REMOVE_EXTRA
    )
    refusals: tuple[type[RequestError], ...] = (Conflict, NotFound)
    return (
        View("GET", "/repairs", shown, Scope.READ, RepairList),
        View(
            "POST", "/repairs/{repair_id}/fix", fix, Scope.ADMIN, Fixed, errors=refusals,
            path_values=_ID,
        ),
        View(
            "POST", "/repairs/{repair_id}/ignore", ignore, Scope.ADMIN, RepairShape, body=ignored,
            errors=(InvalidInput, NotFound), path_values=_ID,
        ),
    )  # fmt: skip
