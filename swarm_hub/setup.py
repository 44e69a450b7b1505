"""Setting up what was planned, in order; what can't be set up is told with the reason."""

import asyncio
import logging
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from swarm_hub.core import Hub
from swarm_hub.exceptions import HubError, SetupError
from swarm_hub.plan import Plan, Planned
from swarm_hub.util.exhaustion import is_exhausted

_LOGGER = logging.getLogger(__name__)

_SETUP_SLOW_S: Final = 10.0
_SETUP_MAX_S: Final = 60.0


class SetupFailure(StrEnum):
    """Why a component is not running."""

    DEPENDENCY = "a component it depends on failed"
    REFUSED = "it could not be set up"
    TOO_SLOW = "its set-up took too long"


@dataclass(frozen=True, slots=True)
class FailedComponent:
    """A component that is not running, with the text for the user."""

    domain: str
    failure: SetupFailure
    message: str
    essential: bool


async def set_up(hub: Hub, planned: Plan) -> list[FailedComponent]:
    """Set up the planned components in order; returns those that failed, with the reason."""
    failed: dict[str, FailedComponent] = {}

    def missing_for(path: str) -> str | None:
        domain = planned.index.serving(path)
        return None if domain in hub.components else domain

    hub.endpoints.explain_missing(missing_for)
    for component in planned.components:
        domain = component.manifest.domain
        missing = [name for name in component.manifest.dependencies if name in failed]
        if missing:
            failure, message = SetupFailure.DEPENDENCY, f"{missing[0]} is not running"
        else:
            try:
                await _set_up_one(hub, component)
                hub.components.add(domain)
                continue
            except Exception as error:
                failure, message = _why(domain, error)
        failed[domain] = FailedComponent(domain, failure, message, domain in planned.essential)
    return list(failed.values())


def _why(domain: str, error: Exception) -> tuple[SetupFailure, str]:
    """Return why a component could not be set up; raises what keeps all of them from running."""
    if is_exhausted(error):
        raise error
    match error:
        case TimeoutError():
            return SetupFailure.TOO_SLOW, f"gave up after {_SETUP_MAX_S:.0f} s"
        case HubError():
            return SetupFailure.REFUSED, str(error)
    _LOGGER.error("Setting up %s failed", domain, exc_info=error)
    return SetupFailure.REFUSED, f"unexpected {error!r}"


async def _set_up_one(hub: Hub, component: Planned) -> None:
    domain = component.manifest.domain
    started = time.monotonic()
    async with asyncio.timeout(_SETUP_MAX_S):
        if not await component.async_setup(hub, component.config):
            raise SetupError(f"{domain} refused to be set up")
    took_s = hub.set_up_s[domain] = time.monotonic() - started
    if took_s > _SETUP_SLOW_S:
        _LOGGER.warning("Setting up %s took %.1f s", domain, took_s)
