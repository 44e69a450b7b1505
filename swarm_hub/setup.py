"""Setting up components: manifest → import → schema → frozen dataclass → `async_setup`."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from types import ModuleType
from typing import Any, Final, cast

from swarm_hub import config
from swarm_hub.config import CORE_SECTIONS, Configuration
from swarm_hub.const import CONFIG_FILE
from swarm_hub.core import Hub
from swarm_hub.exceptions import ConfigError, ConfigProblem, HubError, SetupError
from swarm_hub.helpers.config_validation import did_you_mean
from swarm_hub.helpers.platforms import PlatformSchema
from swarm_hub.loader import ComponentIndex, Manifest

_LOGGER = logging.getLogger(__name__)

_SETUP_SLOW_S: Final = 10.0
_SETUP_MAX_S: Final = 60.0
# A hub that can't play its role stops with exit code 1; other components may fail alone.
_ROLES: Final = ("gateway", "worker")


class SetupFailure(StrEnum):
    """Why a component is not running."""

    DEPENDENCY = "a component it depends on failed"
    INVALID_CONFIG = "its configuration is invalid"
    REFUSED = "it could not be set up"
    TOO_SLOW = "its set-up took too long"


@dataclass(frozen=True, slots=True)
class Failed:
    """A component that is not running, with the text for the user."""

    domain: str
    failure: SetupFailure
    message: str
    essential: bool


@dataclass(frozen=True, slots=True)
class Planned:
    """A component ready to be set up: imported, its configuration validated."""

    manifest: Manifest
    config: object
    async_setup: Callable[[Hub, Any], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a configuration asks for, in the order of set-up, and every problem found."""

    components: tuple[Planned, ...]
    problems: tuple[ConfigProblem, ...]
    essential: frozenset[str]
    index: ComponentIndex


def plan(configuration: Configuration) -> Plan:
    """Resolve and validate every section; the one validator behind `run` and `check`."""
    index = ComponentIndex(configuration.directory)
    content = configuration.sections
    problems = list(configuration.problems)
    wanted: set[str] = set()
    for domain in content:
        if domain in CORE_SECTIONS:
            continue
        try:
            if index.manifest(domain) is None:
                hint = did_you_mean(domain, (*index.domains(), *CORE_SECTIONS))
                problems.append(
                    config.problem_at(content, domain, f"there is no such component{hint}")
                )
                continue
            index.order({domain})
        except SetupError as error:
            problems.append(config.problem_at(content, domain, str(error)))
            continue
        wanted.add(domain)
    roles = wanted.intersection(_ROLES)
    if not roles and not problems:
        problems.append(
            ConfigProblem(
                CONFIG_FILE,
                None,
                "",
                "neither gateway: nor worker: is configured; this hub would do nothing",
            )
        )
    imported: list[tuple[Manifest, ModuleType]] = []
    # All are imported before any section is checked, as one may name what another component
    # registers.
    for manifest in index.order(wanted):
        try:
            imported.append((manifest, manifest.import_component()))
        except SetupError as error:
            problems.append(config.problem_at(content, manifest.domain, str(error)))
    components: list[Planned] = []
    for manifest, component in imported:
        try:
            components.append(_planned(manifest, component, configuration))
        except ConfigError as error:
            problems.extend(error.problems)
        except SetupError as error:
            problems.append(config.problem_at(content, manifest.domain, str(error)))
    problems.sort(key=lambda problem: (problem.file, problem.line or 0))
    essential = frozenset(manifest.domain for manifest in index.order(roles))
    return Plan(tuple(components), tuple(problems), essential, index)


async def set_up(hub: Hub, planned: Plan) -> list[Failed]:
    """Set up the planned components in order; returns those that failed, with the reason."""
    failed: dict[str, Failed] = {}

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
            except TimeoutError:
                failure, message = SetupFailure.TOO_SLOW, f"gave up after {_SETUP_MAX_S:.0f} s"
            except HubError as error:
                failure, message = SetupFailure.REFUSED, str(error)
            except Exception as error:
                _LOGGER.exception("Setting up %s failed", domain)
                failure, message = SetupFailure.REFUSED, f"unexpected {error!r}"
        failed[domain] = Failed(domain, failure, message, domain in planned.essential)
    return list(failed.values())


def _planned(manifest: Manifest, component: ModuleType, configuration: Configuration) -> Planned:
    try:
        schema = cast(Callable[[Any], object], component.CONFIG_SCHEMA)
        if isinstance(schema, PlatformSchema):
            schema = schema.looking_in(configuration.directory)
        async_setup = cast(Callable[[Hub, Any], Awaitable[bool]], component.async_setup)
    except AttributeError as error:
        raise SetupError(f"{manifest.domain}: {error}") from error
    return Planned(
        manifest,
        config.validate_section(configuration.sections, manifest.domain, schema),
        async_setup,
    )


async def _set_up_one(hub: Hub, component: Planned) -> None:
    domain = component.manifest.domain
    started = time.monotonic()
    async with asyncio.timeout(_SETUP_MAX_S):
        if not await component.async_setup(hub, component.config):
            raise SetupError(f"{domain} refused its set-up")
    took_s = time.monotonic() - started
    if took_s > _SETUP_SLOW_S:
        _LOGGER.warning("Setting up %s took %.1f s", domain, took_s)
