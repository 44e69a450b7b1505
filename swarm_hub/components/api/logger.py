"""The views of the log: from which level on the hub logs, read and changed while it runs."""

import logging
from typing import Any, Final, TypedDict

import voluptuous as vol

from swarm_hub.core import Hub
from swarm_hub.endpoints import Json, Request, Scope, View
from swarm_hub.exceptions import InvalidInput
from swarm_hub.helpers import config_validation as cv
from swarm_hub.util.bounds import is_text, shown
from swarm_hub.util.described import described
from swarm_hub.util.process_log import LEVELS, loggers_of

_LOGGER = logging.getLogger(__name__)

_LOGS_MAX: Final = 64
_NAME_MAX_CHARS: Final = 300
_level: Final = cv.one_of(*LEVELS)


class LoggerShape(TypedDict):
    """From which level on the hub logs, in all and by component or logger, and where to.

    `file` is null for stderr.
    """

    default: str
    logs: dict[str, str]
    json: bool
    file: str | None


@described(
    {
        "type": "object",
        "maxProperties": _LOGS_MAX,
        "propertyNames": {"minLength": 1, "maxLength": _NAME_MAX_CHARS},
        "additionalProperties": {"enum": [*LEVELS, None]},
        "examples": [{"mesh": "debug"}],
    }
)
def _levels(value: Any) -> dict[str, str | None]:
    if not isinstance(value, dict) or len(value) > _LOGS_MAX:
        raise vol.Invalid(f"expected at most {_LOGS_MAX} names, each with a level or null")
    if not all(is_text(name, _NAME_MAX_CHARS, 1) for name in value):
        raise vol.Invalid("expected names of components or loggers")
    return {name: None if level is None else _level(level) for name, level in value.items()}


_BODY: Final = vol.Schema({vol.Optional("default"): _level, vol.Optional("logs"): _levels})


def logger_views(hub: Hub) -> tuple[View, ...]:
    """Return the views."""

    def shape() -> Json:
        told: LoggerShape = {
            "default": hub.log_levels.default,
            "logs": dict(sorted(hub.log_levels.logs.items())),
            "json": hub.log_config.json,
            "file": hub.log_config.file,
        }
        return Json(told)

    async def read(_request: Request) -> Json:
        """Return the levels that are in force."""
        return shape()

    async def change(request: Request) -> Json:
        """Log from other levels on, until the hub is restarted or `logger:` is changed.

        Names that are not given stay as they are; null has one follow the default again.
        """
        given = request.body.get("logs", {})
        logs = dict(hub.log_levels.logs)
        for name, level in given.items():
            if level is None:
                logs.pop(name, None)
                continue
            if not any(each in logging.Logger.manager.loggerDict for each in loggers_of(name)):
                raise InvalidInput.at(
                    f"logs.{name}", "there is no such component or logger here; see the log's lines"
                )
            logs[name] = level
        if len(logs) > _LOGS_MAX:
            raise InvalidInput.at("logs", f"at most {_LOGS_MAX} have a level of their own")
        hub.log_levels.set(request.body.get("default", hub.log_levels.default), logs)
        caller = "nobody" if request.caller is None else request.caller.name
        _LOGGER.info("The levels of the log were changed by %s", shown(caller))
        return shape()

    return (
        View("GET", "/logger", read, Scope.READ, LoggerShape),
        View(
            "PUT", "/logger", change, Scope.ADMIN, LoggerShape, body=_BODY, errors=(InvalidInput,)
        ),
    )
