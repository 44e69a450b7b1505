"""What `check` and `doctor` say about a configuration directory before a hub starts on it.

Whatever keeps `run` from starting is said in the words of `run`, by the same functions, and nothing
is changed: nobody may need to be the hub's user to ask.
"""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from swarm_hub import bootstrap, store_care
from swarm_hub.config import Configuration, problem_at
from swarm_hub.const import LOCK_FILE, RESTORE_FILE, STORAGE_DIR
from swarm_hub.control.client import ask
from swarm_hub.exceptions import ConfigProblem, HubError, HubNotRunningError
from swarm_hub.helpers.obstacles import Obstacle, Site
from swarm_hub.helpers.platforms import Platform
from swarm_hub.plan import Plan, Planned
from swarm_hub.runner import runs_already, unwritable
from swarm_hub.storage.backup.hub_files import configuration_files
from swarm_hub.storage.backup.unfinished import read_plan
from swarm_hub.util.files import refuse_unwritable


@dataclass(frozen=True, slots=True)
class Located:
    """An obstacle at its place in the configuration."""

    problem: ConfigProblem
    stops: bool


@dataclass(frozen=True, slots=True)
class Running:
    """The hub that runs on a directory: its process, and where it listens if it says so."""

    process_id: str
    listens: frozenset[str] | None


def running(config_dir: Path) -> Running | None:
    """Return the hub that runs on a directory, None if there is none."""
    try:
        status = ask(config_dir, "status")
    except HubNotRunningError:
        return None
    except HubError:
        return Running("unknown", None)
    # An earlier version does not say where it listens.
    listens = status.get("listens")
    return Running(
        str(status.get("hub", {}).get("process_id", "unknown")),
        None if listens is None else frozenset(listens),
    )


def of_directory(config_dir: Path, runs: Running | None) -> Iterator[Located]:
    """Yield what is wrong with the directory itself."""
    try:
        refuse_unwritable(config_dir / STORAGE_DIR)
        lock = config_dir / LOCK_FILE
        if lock.exists() and not os.access(lock, os.R_OK | os.W_OK):
            raise PermissionError(13, os.strerror(13))
    except OSError as error:
        yield _of_directory(config_dir, unwritable(config_dir, error), stops=True)
    if runs is not None:
        # That is how it is whenever the configuration of a running hub is edited.
        yield _of_directory(config_dir, runs_already(config_dir, runs.process_id), stops=False)
    if (config_dir / RESTORE_FILE).exists():
        try:
            read_plan(config_dir / RESTORE_FILE)
        except HubError as error:
            yield _of_directory(config_dir, error, stops=True)


def of_store(
    configuration: Configuration, planned: Plan, runs: Running | None
) -> Iterator[Located]:
    """Yield what is wrong with the store of a directory that can be used, and with its backups."""
    if _is_unusable(configuration.directory):
        return
    saved = configuration_files(configuration.directory)
    for name in sorted(set(configuration.files).difference(saved)):
        said = "backups leave it out; have it end with .yaml, and in no hidden folder"
        yield Located(ConfigProblem(name, None, "", said), stops=False)
    is_gateway = "gateway" in planned.essential
    for obstacle in store_care.look(configuration, is_gateway=is_gateway, in_use=runs is not None):
        yield _located(configuration, "storage", obstacle)


def _of_log(configuration: Configuration) -> Iterator[Located]:
    """Yield what keeps the log's file from being written."""
    if configuration.logger.file is None:
        return
    path = configuration.directory / configuration.logger.file
    fault = None
    if not path.parent.is_dir():
        fault = errno.ENOENT
    elif path.is_dir():
        fault = errno.EISDIR
    elif not os.access(path if path.exists() else path.parent, os.W_OK):
        fault = errno.EACCES
    if fault is not None:
        said = f"the log {path} can't be written: {os.strerror(fault)}"
        yield _located(configuration, "logger", Obstacle(said, ("file",)))


def of_components(
    configuration: Configuration, planned: Plan, runs: Running | None
) -> Iterator[Located]:
    """Yield what would keep components, or the log, from being set up in a usable directory."""
    if _is_unusable(configuration.directory):
        return
    yield from _of_log(configuration)
    site = Site(
        configuration.directory,
        configuration.storage.shared,
        "gateway" in planned.essential,
        frozenset() if runs is None else runs.listens,
    )
    with site.held:
        for component in planned.components:
            for obstacle in _of_component(site, component):
                yield _located(configuration, component.manifest.domain, obstacle)


def everything(
    config_dir: Path, *, safe_mode: bool = False
) -> tuple[Configuration, Plan, list[Located]]:
    """Return a valid configuration and all that would be in the way of a start.

    Raises ConfigError with every problem of the configuration itself.
    """
    configuration, planned = bootstrap.check(config_dir, safe_mode=safe_mode)
    runs = running(config_dir)
    written = [
        *of_store(configuration, planned, runs),
        *of_components(configuration, planned, runs),
    ]
    written.sort(key=lambda each: (each.problem.file, each.problem.line or 0))
    return configuration, planned, [*of_directory(config_dir, runs), *written]


def _is_unusable(config_dir: Path) -> bool:
    return any(each.stops for each in of_directory(config_dir, None))


def _of_component(site: Site, component: Planned) -> Iterator[Obstacle]:
    if isinstance(component.config, Platform):
        yield from site.refusal(component.config.create, "platform")
    if component.preflight is None:
        return
    try:
        yield from component.preflight(site, component.config)
    except Exception as error:
        # Of a component of the owner's; the others are asked all the same.
        yield Obstacle(f"its preflight failed: {error!r}", stops=False)


def _located(configuration: Configuration, domain: str, obstacle: Obstacle) -> Located:
    path = [domain, *obstacle.path]
    return Located(problem_at(configuration.sections, path, obstacle.message), obstacle.stops)


def _of_directory(config_dir: Path, error: HubError, *, stops: bool) -> Located:
    said = str(error).removeprefix(f"{config_dir}: ")
    return Located(ConfigProblem(str(config_dir), None, "", said), stops)
