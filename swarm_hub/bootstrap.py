"""From a configuration directory to a hub that is set up and started."""

import asyncio
import logging
import platform
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

from swarm_hub import setup, store_care
from swarm_hub.config import Configuration, read_configuration
from swarm_hub.const import LAST_GOOD_FILE
from swarm_hub.control import ControlServer
from swarm_hub.core import Hub, LiveConfiguration, SimpleReloader, StopStage
from swarm_hub.exceptions import ConfigError, ConfigProblem, HubError, SetupError
from swarm_hub.models.event import EventType, NewEvent
from swarm_hub.plan import Plan, plan
from swarm_hub.setup import SetupFailure
from swarm_hub.storage import Store
from swarm_hub.storage.backup.unfinished import finish_restore
from swarm_hub.storage.queries import events
from swarm_hub.util.clock import Clock
from swarm_hub.util.process_log import LoggerConfig, process_log

_LOGGER = logging.getLogger(__name__)


def check(config_dir: Path, *, safe_mode: bool = False) -> tuple[Configuration, Plan]:
    """Read and validate everything; raises ConfigError with every problem found."""
    configuration, planned = _planned(config_dir, safe_mode=safe_mode)
    if problems := planned.all_problems:
        raise ConfigError(problems)
    return configuration, planned


def problems_of(config_dir: Path, *, safe_mode: bool = False) -> list[ConfigProblem]:
    """Return every problem of a configuration, as `check` finds them."""
    try:
        check(config_dir, safe_mode=safe_mode)
    except ConfigError as error:
        return error.problems
    return []


def _planned(config_dir: Path, *, safe_mode: bool) -> tuple[Configuration, Plan]:
    """Read and validate what a hub can't do without."""
    configuration = read_configuration(config_dir, platform.node() or "hub")
    planned = plan(configuration, safe_mode=safe_mode)
    if planned.problems:
        raise ConfigError(planned.all_problems)
    return configuration, planned


async def start_hub(
    config_dir: Path, clock: Clock | None = None, *, safe_mode: bool = False
) -> Hub:
    """Return a running hub; raises HubError, leaving nothing behind, if it can't play its role.

    The caller holds the directory's lock.
    """
    clock = clock or Clock()
    # Before anything is read: the configuration may be only half restored.
    await asyncio.to_thread(finish_restore, config_dir)
    configuration, planned = _planned(config_dir, safe_mode=safe_mode)
    log = process_log()
    if log is not None:
        log.prepare(configuration.logger, config_dir)
        log.apply(configuration.logger)
    is_gateway = "gateway" in planned.essential
    store = await store_care.open_store(configuration, clock, is_gateway=is_gateway)
    try:
        return await _started(store, configuration, planned, clock)
    except HubError:
        if store.damaged is None:
            raise
    # Damage that opening missed and the first readers met: it is marked now, so opening sees it.
    store = await store_care.open_store(configuration, clock, is_gateway=is_gateway)
    return await _started(store, configuration, planned, clock)


async def _started(store: Store, configuration: Configuration, planned: Plan, clock: Clock) -> Hub:
    hub = Hub(configuration.directory, configuration.hub.name, store, clock)
    hub.safe_mode = planned.index.safe_mode
    if (newest := await store.read(events.newest_time)) is not None:
        clock.has_seen(newest)
    hub.check_configuration = partial(problems_of, configuration.directory, safe_mode=hub.safe_mode)
    try:
        failures = await setup.set_up(hub, planned)
        hub.repair_sources.append(lambda: setup.repairs(failures))
        if any(failed.essential for failed in failures):
            # Errors that merely follow from another one would bury the cause.
            causes = [each for each in failures if each.failure is not SetupFailure.DEPENDENCY]
            raise SetupError("\n".join(f"{each.domain}: {each.message}" for each in causes))
        await hub.start(
            partial(setup.tolerate, hub, planned, failures), partial(setup.start_within_s, planned)
        )
        _take_log(hub, configuration.logger)
        _take_reloads(hub, configuration, planned)
        await _listen_to_owner(hub)
        store_care.watch(hub, configuration)
        if "api" in hub.components or hub.storage_path(LAST_GOOD_FILE).exists():
            # Most workers have none.
            from swarm_hub.last_good import remember

            await asyncio.to_thread(remember, hub, configuration, planned)
        for failed in failures:
            _LOGGER.error("%s: %s: %s", failed.domain, failed.failure, failed.message)
        if failures:
            await store.commit(
                [],
                [
                    NewEvent(
                        EventType.COMPONENT_FAILED,
                        {"component": failed.domain, "message": failed.message},
                    )
                    for failed in failures
                ],
            )
    except BaseException:
        await hub.stop()
        raise
    return hub


def _take_log(hub: Hub, config: LoggerConfig) -> None:
    log = process_log()
    if log is not None:
        hub.log_levels = log.levels
    elif config != LoggerConfig():
        hub.log_levels.set(config.default, config.logs)
    hub.log_config = config

    def prepare(new: LoggerConfig) -> None:
        if log is not None and new != hub.log_config:
            log.prepare(new, hub.config_dir)

    def apply(new: LoggerConfig) -> None:
        # What was set since by the API stays while the section is as it was.
        if new == hub.log_config:
            return
        hub.log_config = new
        if log is None:
            hub.log_levels.set(new.default, new.logs)
        else:
            log.apply(new)

    hub.reloaders["logger"] = SimpleReloader(apply, check=prepare)


def _take_reloads(hub: Hub, configuration: Configuration, planned: Plan) -> None:
    @cache
    def live() -> LiveConfiguration:
        from swarm_hub.reload import Live

        # In safe mode also what comes later is without the components of the owner.
        read = partial(check, configuration.directory, safe_mode=hub.safe_mode)
        return Live(hub, configuration, planned, read)

    async def reload(_arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return {"reloaded": True, **await live().reload("its owner")}
        except ConfigError as error:
            return {"reloaded": False, "problems": [asdict(each) for each in error.problems]}

    hub.live_configuration = live
    hub.control.add("reload", reload)


async def _listen_to_owner(hub: Hub) -> None:
    server = ControlServer(hub.config_dir, hub.control, hub.tasks)
    # Until the mesh ends, so that `status` can tell what a stop waits for.
    hub.on_stop(StopStage.DISCONNECT, "control socket", server.stop)
    await server.start()
