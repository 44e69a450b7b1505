"""Recovery: with a configuration that can't be used, a hub that helps to mend it, and nothing else.

It has the API and the page on 127.0.0.1, at the port and with the tokens of the last configuration
that worked. The store stays closed: what these two keep meanwhile is in one that is thrown away.
"""

import asyncio
import logging
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from swarm_hub import bootstrap, setup
from swarm_hub.const import CONFIG_FILE, STORAGE_DIR
from swarm_hub.control import ControlServer
from swarm_hub.core import Hub, HubState, StopStage
from swarm_hub.exceptions import ConfigError, ConfigProblem, HubError, SetupError
from swarm_hub.last_good import LastGood
from swarm_hub.loader import ComponentIndex
from swarm_hub.plan import plan_of
from swarm_hub.storage import Store
from swarm_hub.util.clock import Clock

_LOGGER = logging.getLogger(__name__)

_COMPONENTS: Final = {"api", "frontend"}
_FOLDER: Final = "recovery"
# Passing ones, of components that do not run: who follows the hub goes on with that.
_EVENT_TYPES: Final = ("job_progress", "repair_raised", "repair_gone", "telemetry")


async def start_recovery(config_dir: Path, why: HubError, clock: Clock | None = None) -> Hub:
    """Return a hub that helps to mend a configuration; raises `why` if there can be none.

    The caller holds the directory's lock.
    """
    last_good = await asyncio.to_thread(LastGood.read, config_dir)
    if last_good is None:
        raise why
    folder = config_dir / STORAGE_DIR / _FOLDER
    remove = partial(shutil.rmtree, folder, ignore_errors=True)
    # What a life that was killed has left.
    await asyncio.to_thread(remove)
    clock = clock or Clock()
    store = Store.on_file(folder / "thrown_away.db", clock)
    try:
        folder.mkdir(mode=0o700)
        await store.open()
    except (HubError, OSError) as error:
        await asyncio.to_thread(remove)
        raise why from error
    hub = Hub(config_dir, last_good.name, store, clock)
    try:
        await _start(hub, last_good, why)
    except BaseException as error:
        await hub.stop()
        await asyncio.to_thread(remove)
        if isinstance(error, HubError | OSError):
            raise why from error
        raise
    hub.when_stopped = remove
    return hub


async def _start(hub: Hub, last_good: LastGood, why: HubError) -> None:
    api: dict[str, Any] = {"host": "127.0.0.1", "port": last_good.port, "tls": last_good.tls}
    # None of the owner's own components: one of them may be what is wrong.
    planned = plan_of(hub.config_dir, {"api": api}, _COMPONENTS)
    failures = await setup.set_up(hub, planned)
    if failures or planned.problems:
        raise SetupError(f"{failures} {planned.problems}")
    # `check` is to know that this address is free once the recovery ends.
    hub.listens.add(f"{last_good.host}:{last_good.port}")
    hub.endpoints.explain_missing(ComponentIndex(hub.config_dir).serving)
    problems = list(_problems(why))
    hub.check_configuration = partial(_check, hub.config_dir, problems)
    hub.endpoints.add_health(lambda: {"recovery": [each.shape() for each in problems]})
    for event_type in _EVENT_TYPES:
        hub.endpoints.add_event_type(event_type)
    await hub.start()
    server = ControlServer(hub.config_dir, hub.control, hub.tasks)
    hub.on_stop(StopStage.DISCONNECT, "control socket", server.stop)
    await server.start()
    hub.state = HubState.RECOVERY
    _LOGGER.error("The configuration can't be used; mend it on the page, or in its file:\n%s", why)


def _check(config_dir: Path, problems: list[ConfigProblem]) -> list[ConfigProblem]:
    """Look again; what is found is what the hub's health tells from then on."""
    problems[:] = bootstrap.problems_of(config_dir)
    return list(problems)


def _problems(why: HubError) -> Sequence[ConfigProblem]:
    if isinstance(why, ConfigError):
        return why.problems
    return [ConfigProblem(CONFIG_FILE, None, "", str(why))]
