"""`doctor`: what would keep a hub from working on this machine."""

import asyncio
import importlib.metadata
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from swarm_hub.cli.options import config_option, echo, json_option, print_json
from swarm_hub.const import CONFIG_FILE
from swarm_hub.exceptions import ConfigError
from swarm_hub.util.units import format_size

_FREE_WARN_BYTES: Final = 1024**3
_LIBRARIES: Final = ("libp2p", "wasmtime", "aiohttp", "sqlalchemy", "pynacl", "psutil")


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check; `level` is ok, warn or bad."""

    level: str
    subject: str
    text: str


@click.command()
@config_option
@json_option
def doctor(config_dir: Path, as_json: bool) -> int:
    """Look for anything that would keep a hub from working here; exit 1 if something would."""
    findings = [check(config_dir) for check in _CHECKS]
    if as_json:
        print_json([{"level": f.level, "subject": f.subject, "text": f.text} for f in findings])
    else:
        for finding in findings:
            echo(f"{finding.level:5} {finding.subject}: {finding.text}")
    return 1 if any(finding.level == "bad" for finding in findings) else 0


def _python(_config_dir: Path) -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    level = "ok" if sys.version_info >= (3, 11) else "bad"
    return Finding(level, "python", f"{version}, 3.11 or newer is needed")


def _libraries(_config_dir: Path) -> Finding:
    try:
        found = [f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES]
    except importlib.metadata.PackageNotFoundError as error:
        return Finding("bad", "libraries", f"{error.name} is missing; install swarm-hub again")
    return Finding("ok", "libraries", ", ".join(found))


def _sqlite(_config_dir: Path) -> Finding:
    version = sqlite3.sqlite_version_info
    if version < (3, 37, 0):
        return Finding("bad", "sqlite", f"{sqlite3.sqlite_version}: 3.37 or newer is needed")
    from swarm_hub.storage.engine.sqlite import has_wal_reset_fix

    if not has_wal_reset_fix(version):
        return Finding(
            "warn",
            "sqlite",
            f"{sqlite3.sqlite_version} has the WAL-reset bug; let no other program write to a "
            "hub's database, or use 3.51.3, 3.50.7 or 3.44.6",
        )
    return Finding("ok", "sqlite", sqlite3.sqlite_version)


def _directory(config_dir: Path) -> Finding:
    if not config_dir.is_dir():
        return Finding(
            "warn", "directory", f"{config_dir} is not there yet; swarm-hub init makes it"
        )
    if not os.access(config_dir, os.W_OK):
        return Finding("bad", "directory", f"{config_dir} can't be written")
    free = shutil.disk_usage(config_dir).free
    level = "ok" if free > _FREE_WARN_BYTES else "warn"
    return Finding(level, "directory", f"{config_dir}, {format_size(free)} free")


def _configuration(config_dir: Path) -> Finding:
    if not (config_dir / CONFIG_FILE).is_file():
        return Finding("warn", "configuration", "none yet; swarm-hub init makes one")
    from swarm_hub import bootstrap

    try:
        bootstrap.check(config_dir)
    except ConfigError as error:
        return Finding("bad", "configuration", str(error.problems[0]))
    return Finding("ok", "configuration", "valid")


def _store(config_dir: Path) -> Finding:
    from swarm_hub.config import read_configuration
    from swarm_hub.exceptions import HubError
    from swarm_hub.storage.engine import damage

    try:
        storage = read_configuration(config_dir, "hub").storage
        if storage.shared:
            from swarm_hub.storage.engine.postgres import server_version

            return Finding("ok", "store", f"PostgreSQL {server_version(storage.url)} answers")
        database = storage.path(config_dir)
        damage.raise_if_marked(database)
    except ConfigError:
        return Finding("warn", "store", "not known without a valid configuration")
    except HubError as error:
        return Finding("bad", "store", str(error))
    if not database.parent.is_dir():
        return Finding("warn", "store", f"{database.parent} does not exist yet")
    free = shutil.disk_usage(database.parent).free
    least = format_size(storage.min_free_bytes)
    level = "ok" if free >= storage.min_free_bytes else "bad"
    return Finding(level, "store", f"{database}, {format_size(free)} free, at least {least} needed")


def _sandbox(_config_dir: Path) -> Finding:
    from swarm_hub.cli.inspect import with_sandbox
    from swarm_hub.components.sandbox import Fence, Sandbox
    from swarm_hub.exceptions import HubError

    async def start_one(sandbox: Sandbox) -> Fence | None:
        await sandbox.assemble("(module)")
        return sandbox.stats().fence

    try:
        fence = asyncio.run(with_sandbox(start_one))
    except HubError as error:
        return Finding("bad", "sandbox", str(error))
    return Finding("ok" if fence and not fence.absent else "warn", "sandbox", str(fence))


_CHECKS: Final[tuple[Callable[[Path], Finding], ...]] = (
    _python,
    _libraries,
    _sqlite,
    _directory,
    _configuration,
    _store,
    _sandbox,
)
