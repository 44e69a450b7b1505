"""`service`: have the machine's service manager keep a hub running."""

import os
import re
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click

from swarm_hub.cli.diagnosis.android import is_android
from swarm_hub.cli.options import config_option, echo, json_option, note, print_json, working_dir
from swarm_hub.cli.services import Manager, Service, Step, carry_out, described, systemd
from swarm_hub.cli.services.termux import Termux
from swarm_hub.exceptions import HubError

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)


def _checked_name(_ctx: object, _option: object, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise click.BadParameter(
            f"{name!r}: expected up to 64 letters, digits, _ and -, first a letter or digit"
        )
    return name


_name_option = click.option(
    "--name", default="swarm-hub", show_default=True, callback=_checked_name,
    help="What the manager calls it; choose another for a second hub.",
)  # fmt: skip
_system_option = click.option(
    "--system", is_flag=True, help="A unit of the system (root's default), not of the user."
)
_dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Print what would be done, as shell commands."
)


@click.group()
def service() -> None:
    """Have systemd, or runit on a phone, keep a hub running."""


@service.command()
@config_option
@_name_option
@_system_option
@_dry_run_option
@json_option
def install(config_dir: Path, name: str, system: bool, dry_run: bool, as_json: bool) -> None:
    """Start the hub now, with the device, and again whenever it ended."""
    manager = _manager(system)
    wanted = Service(name, _program(), _plain(working_dir(config_dir).absolute()))
    if _do(name, list(manager.install(wanted)), dry_run, as_json):
        note(f"{name} is installed; see: swarm-hub service status")


@service.command()
@_name_option
@_system_option
@json_option
def status(name: str, system: bool, as_json: bool) -> int:
    """Show what keeps the hub running; exit 1 unless it runs."""
    found = _manager(system).status(name)
    if as_json:
        print_json(asdict(found))
    else:
        running = "runs" if found.running else "does not run"
        echo(f"{found.name}, by {found.manager}: {running if found.installed else 'not installed'}")
        for layer in found.layers:
            level = {True: "ok", False: "none", None: "?"}[layer.present]
            echo(f"{level:5} {layer.name}: {layer.text}")
        echo(f"log: {found.log}")
    return 0 if found.installed and found.running else 1


@service.command()
@_name_option
@_system_option
@_dry_run_option
@json_option
def remove(name: str, system: bool, dry_run: bool, as_json: bool) -> None:
    """Stop the hub and have nothing start it again; its directory stays as it is."""
    if _do(name, list(_manager(system).remove(name)), dry_run, as_json):
        note(f"{name} is removed")


def _do(name: str, steps: list[Step], dry_run: bool, as_json: bool) -> bool:
    """Do or show the steps; returns whether it remains to be said that they were done."""
    missed = [] if dry_run else carry_out(steps)
    if as_json:
        commands = [described(each) for each in steps]
        print_json({"name": name, "done": not dry_run, "steps": commands, "missed": missed})
        return False
    if dry_run:
        for step in steps:
            click.echo(described(step))
    for each in missed:
        note(f"Note: {each}")
    return not dry_run


def _manager(system: bool) -> Manager:
    if is_android():
        return Termux()
    if systemd.BOOTED.is_dir() and shutil.which("systemctl") is not None:
        return systemd.Systemd(system=system or os.geteuid() == 0)
    raise HubError(
        "neither systemd nor Termux is here; have what starts programs on this system run: "
        "swarm-hub run --log FILE"
    )


def _program() -> tuple[str, ...]:
    """Return this command as it was called: an upgrade may change where a link leads."""
    called = Path(sys.argv[0])
    if called.name == "swarm-hub" and (found := shutil.which(called)) is not None:
        return (str(Path(found).absolute()),)
    return (sys.executable, "-m", "swarm_hub")


def _plain(path: Path) -> Path:
    if not str(path).isprintable():
        raise HubError(f"{str(path)!r}: a service's directory has no control characters")
    return path
