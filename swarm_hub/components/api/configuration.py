"""The views of the configuration: what is in force, and taking what the files say now."""

from typing import TypedDict

from swarm_hub.core import Hub, LiveConfiguration
from swarm_hub.endpoints import Json, Request, Scope, View
from swarm_hub.exceptions import ConfigError, InvalidInput, Unavailable
from swarm_hub.models.reload import KeyValue, Reload


class ConfigurationShape(TypedDict):
    """Every value that is in force, and the keys that wait for a restart."""

    values: list[KeyValue]
    needs_restart: list[str]


def configuration_views(hub: Hub) -> tuple[View, ...]:
    """Return the views."""

    def live() -> LiveConfiguration:
        if hub.live_configuration is None:
            raise Unavailable("starting", "the hub has not started yet; try again")
        return hub.live_configuration()

    async def effective(_request: Request) -> Json:
        """Return every value that is in force, where it is from, and whether it can be reloaded.

        Secrets are left out.
        """
        shape: ConfigurationShape = {
            "values": live().values(),
            "needs_restart": list(hub.needs_restart),
        }
        return Json(shape)

    async def reload(request: Request) -> Json:
        """Put in force what the configuration's files say now, all of it or nothing.

        Keys that need a restart are told and stay as they are. `errors` of a refusal has every
        problem, with its file and line.
        """
        caller = request.caller
        try:
            return Json(await live().reload("nobody" if caller is None else caller.name))
        except ConfigError as error:
            problems = [{"path": each.path, "message": str(each)} for each in error.problems]
            raise InvalidInput(
                "invalid_configuration",
                f"nothing was changed; the configuration has {len(problems)} problems, the first: "
                f"{problems[0]['message']}",
                problems,
            ) from error

    return (
        View("GET", "/config", effective, Scope.ADMIN, ConfigurationShape),
        View(
            "POST", "/config/reload", reload, Scope.ADMIN, Reload,
            errors=(InvalidInput, Unavailable),
        ),
    )  # fmt: skip
