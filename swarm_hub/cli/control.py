"""Commands for the owner of a device, to the hub that runs on it: reload, status, pause, resume."""

import json
from pathlib import Path
from typing import Any

import click

from swarm_hub.cli.options import (
    config_option,
    echo,
    json_option,
    note,
    print_json,
    seconds,
    working_dir,
)
from swarm_hub.control import Refused
from swarm_hub.control.client import ask
from swarm_hub.exceptions import ConfigProblem, HubError
from swarm_hub.models.node import READY
from swarm_hub.util.units import format_duration


@click.command()
@config_option
@json_option
def reload(config_dir: Path, as_json: bool) -> int:
    """Have the hub on this device take its changed configuration, without a restart.

    All of it is checked first; if anything is wrong, nothing changes and the exit code is 1. Keys
    that need a restart are named and stay as they are until then. Jobs go on.
    """
    answer = ask(working_dir(config_dir), "reload")
    if as_json:
        print_json(answer)
    elif answer["reloaded"]:
        _print_reload(answer)
    else:
        for each in answer["problems"]:
            note(str(ConfigProblem(**each)))
        note("Nothing was changed")
    return 0 if answer["reloaded"] else 1


@click.command()
@config_option
@json_option
def status(config_dir: Path, as_json: bool) -> None:
    """Show what the hub on this device does, and why it takes no work if it takes none.

    It asks the hub that runs on the directory, whatever its role: no API and no token is needed.
    """
    found = ask(working_dir(config_dir), "status")
    try:
        found["repairs"] = _repairs(config_dir)
    except Refused:
        # It runs an earlier version.
        found["repairs"] = []
    if as_json:
        print_json(found)
        return
    hub = found["hub"]
    roles = " and ".join(hub["roles"]) or "hub"
    echo(f"{hub['name']}: {roles}, {hub['state']}, up {format_duration(hub['uptime_s'])}")
    peers = found.get("peers", [])
    for role in ("gateway", "worker"):
        names = sorted(peer["name"] for peer in peers if role in peer["roles"])
        if names:
            echo(f"connected {role}s: {', '.join(names)}")
    if not peers:
        echo("connected to no other hub")
    if "api" in found:
        echo(f"API's certificate: {found['api']['tls_fingerprint']}")
    if "worker" in found:
        _print_worker(found["worker"])
    for each in found["repairs"]:
        if not each["ignored"] and each["severity"] != "notice":
            echo(f"{each['severity']}: {each['title']} (swarm-hub repairs)")


@click.command()
@config_option
@json_option
@click.option("--all", "show_all", is_flag=True, help="Also what is ignored.")
@click.option("--fix", metavar="ID", help="Do what the button of this repair on the page does.")
@click.option("--ignore", metavar="ID", help="Hide this repair until it gets worse.")
def repairs(
    config_dir: Path, as_json: bool, show_all: bool, fix: str | None, ignore: str | None
) -> None:
    """List what a person should do about the hub on this device, and how.

    Each goes by itself once its cause is gone. No API and no token is needed.
    """
    found = _repairs(working_dir(config_dir), fix=fix, ignore=ignore)
    if as_json:
        print_json(found)
        return
    shown = [each for each in found if show_all or not each["ignored"]]
    if not shown:
        note("There is nothing to repair")
    for each in shown:
        ignored = " (ignored)" if each["ignored"] else ""
        echo(f"{each['severity']}: {each['title']}{ignored}")
        echo(f"  id: {each['id']}, since {each['since']}")
        echo(f"  if ignored: {each['if_ignored']}")
        echo(f"  fix: {each['fix']}")
        if each["command"]:
            echo(f"  → {each['command']}")
        if each["button"]:
            echo(f"  → swarm-hub repairs --fix {each['id']}   # {each['button']}")


def _repairs(config_dir: Path, **named: str | None) -> list[dict[str, Any]]:
    given = {name: value for name, value in named.items() if value is not None}
    found: list[dict[str, Any]] = ask(config_dir, "repairs", **given)["repairs"]
    return found


@click.command()
@config_option
@json_option
@click.argument("duration", required=False, metavar="[2h]", callback=seconds)
def pause(config_dir: Path, as_json: bool, duration: float | None) -> None:
    """Have this device take no work, for a time such as 2h or until `swarm-hub resume`.

    What it has goes back to the gateways at once; a restart does not end the pause.
    """
    answer = _of_worker(config_dir, "pause", for_s=duration)
    if as_json:
        print_json(answer)
        return
    note(str(answer["reason"]).capitalize())


@click.command()
@config_option
@json_option
def resume(config_dir: Path, as_json: bool) -> None:
    """End a pause: have this device take work again."""
    answer = _of_worker(config_dir, "resume")
    if as_json:
        print_json(answer)
        return
    state = "Resumed" if answer["was_paused"] else "It was not paused"
    refuses = answer["refuses"]
    note(f"{state}; it takes no work: {refuses}" if refuses else f"{state}; it takes work")


def _print_reload(answer: dict[str, Any]) -> None:
    for each in answer["applied"]:
        echo(f"{each['path']}: {_worded(each['old'])} -> {_worded(each['new'])}")
    for each in answer["needs_restart"]:
        values = f"{_worded(each['old'])} -> {_worded(each['new'])}"
        echo(f"{each['path']}: {values}  # needs a restart")
    if not answer["applied"]:
        note("Nothing to apply: every key that needs no restart is as it was")
    if answer["needs_restart"]:
        note("Restart the hub for the keys that need it; until then they stay as they were")


def _worded(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)


def _of_worker(config_dir: Path, command: str, **arguments: object) -> dict[str, Any]:
    try:
        return ask(working_dir(config_dir), command, **arguments)
    except Refused as error:
        if error.code != "unknown_command":
            raise
        raise HubError(
            f"{config_dir}: the hub there is no worker, it runs no shards; `swarm-hub node drain` "
            "keeps work from one of its nodes"
        ) from None


def _print_worker(worker: dict[str, Any]) -> None:
    echo(
        f"running {len(worker['running'])}, waiting {worker['waiting']}, "
        f"results to deliver {worker['to_deliver']}"
    )
    for assignment_id in worker["running"]:
        echo(f"  {assignment_id}")
    if worker.get("slower"):
        echo(f"at most {worker['slots']} at once: {worker['slower']}")
    for said in worker["runtimes"].values():
        if said != READY:
            echo(f"runtimes: {said}")
    if data := worker.get("data_today"):
        used, limit = data["used_bytes"] / 1e6, data["limit_bytes"] / 1e6
        echo(f"data today: {used:.1f} of {limit:g} MB")
    for gateway, reason in worker["drained_by"].items():
        echo(f"no work from {gateway}: {reason}")
    echo(f"takes no work: {worker['refuses']}" if worker["refuses"] else "takes work")
