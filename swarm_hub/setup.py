"""Setting up what was planned, in order; what can't be set up is told with the reason."""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from swarm_hub.core import Hub
from swarm_hub.exceptions import HubError, SetupError
from swarm_hub.helpers.platforms import Platform
from swarm_hub.plan import Plan, Planned
from swarm_hub.util.exhaustion import is_exhausted

if TYPE_CHECKING:
    from swarm_hub.repairs import Repair

_LOGGER = logging.getLogger(__name__)

_SETUP_SLOW_S: Final = 10.0
_SETUP_MAX_S: Final = 60.0
_START_MAX_S: Final = 60.0


class SetupFailure(StrEnum):
    """Why a component is not running."""

    DEPENDENCY = "a component it depends on failed"
    REFUSED = "it could not be set up"
    TOO_SLOW = "its set-up or start took too long"
    IMPORT = "it can't be imported"
    START = "it could not be started"


@dataclass(frozen=True, slots=True)
class FailedComponent:
    """A component that is not running, with the text for the user."""

    domain: str
    failure: SetupFailure
    message: str
    essential: bool


async def set_up(hub: Hub, planned: Plan) -> list[FailedComponent]:
    """Set up the planned components in order; returns those that failed, with the reason."""
    failed = {
        each.manifest.domain: FailedComponent(
            each.manifest.domain, SetupFailure.IMPORT, str(each.problem), essential=False
        )
        for each in planned.lacks
    }

    def missing_for(path: str) -> str | None:
        domain = planned.index.serving(path)
        return None if domain in hub.components else domain

    hub.endpoints.explain_missing(missing_for)
    if planned.left_out:
        _LOGGER.warning("Safe mode: started without %s", ", ".join(planned.left_out))
    for component in planned.components:
        domain = component.manifest.domain
        _tell_if_custom(component)
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
    failures = list(failed.values())
    if _custom(planned, failures):
        # Some fail later, at the start.
        hub.endpoints.add_health(lambda: {"custom_components": _custom(planned, failures)})
    if hub.safe_mode:
        hub.endpoints.add_health(lambda: {"safe_mode": True})
    return failures


def _tell_if_custom(component: Planned) -> None:
    """Log what is not a part of swarm_hub, before its code is run."""
    manifest, config = component.manifest, component.config
    if manifest.custom:
        _LOGGER.info(
            "Custom component %s %s of %s%s: whoever wrote it answers for it",
            manifest.domain,
            manifest.version,
            manifest.folder,
            ", in the place of the built-in one" if manifest.overrides else "",
        )
    if isinstance(config, Platform) and config.custom is not None:
        _LOGGER.info(
            "Custom platform %s of %s, %s: whoever wrote it answers for it",
            config.name,
            manifest.domain,
            config.custom,
        )


def _custom(planned: Plan, failures: Iterable[FailedComponent]) -> list[dict[str, Any]]:
    """Return what the hub's health says of components and platforms that are not its own."""
    found = []
    failed = {each.domain: each for each in failures}
    for component in planned.components:
        manifest, config = component.manifest, component.config
        failure = failed.get(manifest.domain)
        said = {
            "state": "running" if failure is None else "failed",
            "message": None if failure is None else failure.message,
        }
        if manifest.custom:
            own = {"version": manifest.version, "platform_of": None}
            found.append({"name": manifest.domain, **own, "overrides": manifest.overrides, **said})
        if isinstance(config, Platform) and config.custom is not None:
            own = {"version": None, "platform_of": manifest.domain}
            found.append({"name": config.name, **own, "overrides": False, **said})
    return found


def start_within_s(planned: Plan, domain: str) -> float | None:
    """Return how long a start step of a component may take; None for what a role waits for."""
    return None if domain in planned.essential or not domain else _START_MAX_S


def tolerate(
    hub: Hub, planned: Plan, failures: list[FailedComponent], domain: str, error: Exception
) -> bool:
    """Whether a hub runs on though a component failed at its start; if so it is noted."""
    if domain in planned.essential or not domain:
        return False
    failure, message = _why(domain, error, SetupFailure.START)
    if all(each.domain != domain for each in failures):
        failures.append(FailedComponent(domain, failure, message, essential=False))
    hub.components.discard(domain)
    return True


def repairs(failures: list[FailedComponent]) -> "Iterator[Repair]":
    """Yield the components that do not run."""
    from swarm_hub.repairs import Repair

    for each in failures:
        yield Repair(
            f"component.{each.domain}",
            "error",
            f"The component {each.domain} does not run: {each.failure}",
            "The hub runs without what it does.",
            f"{each.message}; mend that, or take {each.domain}: out of the configuration, and "
            "restart the hub.",
        )


def _why(
    domain: str, error: Exception, failure: SetupFailure = SetupFailure.REFUSED
) -> tuple[SetupFailure, str]:
    """Return why a component does not run; raises what keeps all of them from running."""
    if is_exhausted(error):
        raise error
    match error:
        case TimeoutError():
            return SetupFailure.TOO_SLOW, f"gave up after {_SETUP_MAX_S:.0f} s"
        case HubError():
            return failure, str(error)
    _LOGGER.error("%s: %s", domain, failure, exc_info=error)
    return failure, f"unexpected {error!r}"


async def _set_up_one(hub: Hub, component: Planned) -> None:
    domain = component.manifest.domain
    started = time.monotonic()
    hub.setting_up = domain
    async with asyncio.timeout(_SETUP_MAX_S):
        if not await component.async_setup(hub, component.config):
            raise SetupError(f"{domain} refused to be set up")
    took_s = hub.set_up_s[domain] = time.monotonic() - started
    if took_s > _SETUP_SLOW_S:
        _LOGGER.warning("Setting up %s took %.1f s", domain, took_s)
