"""`doctor`: what would keep a hub from working on this machine."""

import asyncio
import shutil
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from swarm_hub.cli.diagnosis import Check, Finding
from swarm_hub.cli.diagnosis.android import android, is_android
from swarm_hub.cli.diagnosis.gateways import gateways
from swarm_hub.cli.diagnosis.libraries import libraries, mended_by
from swarm_hub.cli.options import config_option, echo, json_option, print_json
from swarm_hub.const import CONFIG_FILE
from swarm_hub.exceptions import ConfigError
from swarm_hub.util.event_loop import event_loop_name
from swarm_hub.util.files import free_at
from swarm_hub.util.units import format_size

if TYPE_CHECKING:
    from swarm_hub.preflight import Located

_FREE_WARN_BYTES: Final = 1024**3
# All run at once, so this bounds the command.
_WITHIN_S: Final = 9.0


@click.command()
@config_option
@json_option
def doctor(config_dir: Path, as_json: bool) -> int:
    """Look for anything that would keep a hub from working here; exit 1 if something would."""
    findings = _checked(config_dir)
    if as_json:
        print_json(
            [
                {
                    "level": each.level, "subject": each.subject, "text": each.text,
                    "command": each.command or None,
                }
                for each in findings
            ]
        )  # fmt: skip
    else:
        for each in findings:
            echo(f"{each.level:5} {each.subject}: {each.text}")
            if each.command:
                echo(f"      → {each.command}")
    return 1 if any(finding.level == "bad" for finding in findings) else 0


def _checked(config_dir: Path) -> list[Finding]:
    """Run every check at once; one that does not answer in time is left behind, and told."""
    found: dict[str, list[Finding]] = {}

    def run(check: Check) -> None:
        found[check.__name__] = _outcome(check, config_dir)

    # Daemons, so that the process does not wait for what it has left behind.
    threads = [threading.Thread(target=run, args=(check,), daemon=True) for check in _CHECKS]
    deadline = time.monotonic() + _WITHIN_S
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"no answer within {_WITHIN_S:.0f} s"
    return [
        finding
        for check in _CHECKS
        for finding in found.get(check.__name__, [Finding("warn", check.__name__.strip("_"), late)])
    ]


def _outcome(check: Check, config_dir: Path) -> list[Finding]:
    subject = check.__name__.strip("_")
    try:
        return check(config_dir)
    except ImportError as error:
        # The check of the libraries says so as well if a hub needs it.
        command = mended_by(error.name or "swarm_hub")
        return [Finding("warn", subject, f"not known: {error}", command)]
    except Exception as error:
        return [Finding("warn", subject, f"not known: {error!r}")]


def _python(_config_dir: Path) -> list[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    level = "ok" if sys.version_info >= (3, 11) else "bad"
    command = "" if level == "ok" else "pkg upgrade python" if is_android() else ""
    text = f"{version}, 3.11 or newer is needed; event loop: {event_loop_name()}"
    return [Finding(level, "python", text, command)]


def _sqlite(_config_dir: Path) -> list[Finding]:
    version = sqlite3.sqlite_version_info
    if version < (3, 37, 0):
        return [Finding("bad", "sqlite", f"{sqlite3.sqlite_version}: 3.37 or newer is needed")]
    from swarm_hub.storage.engine.sqlite import has_wal_reset_fix

    if not has_wal_reset_fix(version):
        return [
            Finding(
                "warn",
                "sqlite",
                f"{sqlite3.sqlite_version} has the WAL-reset bug; let no other program write to a "
                "hub's database, or use 3.51.3, 3.50.7 or 3.44.6",
            )
        ]
    return [Finding("ok", "sqlite", sqlite3.sqlite_version)]


def _directory(config_dir: Path) -> list[Finding]:
    if not config_dir.is_dir():
        return [
            Finding(
                "warn",
                "directory",
                f"{config_dir} is not there yet",
                f"swarm-hub init -c {config_dir}",
            )
        ]
    from swarm_hub import preflight

    if found := list(preflight.of_directory(config_dir, preflight.running(config_dir))):
        return _told("directory", found, f"chmod -R u+rwX {config_dir}")
    free = shutil.disk_usage(config_dir).free
    level = "ok" if free > _FREE_WARN_BYTES else "warn"
    return [Finding(level, "directory", f"{config_dir}, {format_size(free)} free")]


def _configuration(config_dir: Path) -> list[Finding]:
    if not (config_dir / CONFIG_FILE).is_file():
        return [Finding("warn", "configuration", "none yet", f"swarm-hub init -c {config_dir}")]
    from swarm_hub import bootstrap, preflight

    command = f"swarm-hub check -c {config_dir}"
    try:
        configuration, planned = bootstrap.check(config_dir)
    except ConfigError as error:
        return [Finding("bad", "configuration", str(error.problems[0]), command)]
    runs = preflight.running(config_dir)
    found = list(preflight.of_components(configuration, planned, runs))
    return _told("configuration", found, command) or [Finding("ok", "configuration", "valid")]


def _store(config_dir: Path) -> list[Finding]:
    from swarm_hub import bootstrap, preflight

    try:
        configuration, planned = bootstrap.check(config_dir)
    except ConfigError:
        return [Finding("warn", "store", "not known without a valid configuration")]
    runs = preflight.running(config_dir)
    if found := list(preflight.of_store(configuration, planned, runs)):
        return _told("store", found, f"swarm-hub check -c {config_dir}")
    storage = configuration.storage
    if storage.shared:
        return [Finding("ok", "store", "the PostgreSQL server answers")]
    database = storage.path(config_dir)
    free = format_size(free_at(database.parent))
    least = format_size(storage.min_free_bytes)
    return [Finding("ok", "store", f"{database}, {free} free, at least {least} needed")]


def _repairs(config_dir: Path) -> list[Finding]:
    """Ask the hub that runs here; a notice is no matter for a doctor."""
    from swarm_hub.control.client import ask
    from swarm_hub.exceptions import HubError

    try:
        standing = ask(config_dir, "repairs")["repairs"]
    except (HubError, KeyError):
        # None runs, or one of an earlier version; whoever may not ask was told so.
        return []
    return [
        Finding("warn", "repairs", f"{each['title']}: {each['fix']}", each["command"] or "")
        for each in standing
        if not each["ignored"] and each["severity"] != "notice"
    ]


def _told(subject: str, found: "list[Located]", command: str) -> list[Finding]:
    return [
        Finding("bad" if each.stops else "warn", subject, str(each.problem), command)
        for each in found
    ]


def _sandbox(_config_dir: Path) -> list[Finding]:
    from swarm_hub.cli.inspect import with_sandbox
    from swarm_hub.components.sandbox import Fence, Sandbox
    from swarm_hub.exceptions import HubError

    async def start_one(sandbox: Sandbox) -> Fence | None:
        await sandbox.assemble("(module)")
        return sandbox.stats().fence

    try:
        fence = asyncio.run(with_sandbox(start_one))
    except HubError as error:
        return [Finding("bad", "sandbox", str(error), mended_by("wasmtime"))]
    return [Finding("ok" if fence and not fence.absent else "warn", "sandbox", str(fence))]


_CHECKS: Final[tuple[Check, ...]] = (
    _python,
    libraries,
    _sqlite,
    _directory,
    _configuration,
    _store,
    _repairs,
    _sandbox,
    gateways,
    android,
)
