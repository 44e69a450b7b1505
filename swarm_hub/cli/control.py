"""Commands for the owner of a device, to the hub that runs on it: status, pause, resume."""

import time
from pathlib import Path
from typing import Any

import click

from swarm_hub.cli.options import config_option, echo, json_option, print_json, working_dir
from swarm_hub.control import ask


@click.command()
@config_option
@json_option
def status(config_dir: Path, as_json: bool) -> None:
    """Show what the hub on this device does, and why it takes no work if it takes none."""
    found = ask(working_dir(config_dir), "status")
    if as_json:
        print_json(found)
        return
    hub = found["hub"]
    roles = " and ".join(hub["roles"]) or "hub"
    echo(f"{hub['name']}: {roles}, {hub['state']}, up {_duration(hub['uptime_s'])}")
    peers = found.get("peers", [])
    for role in ("gateway", "worker"):
        names = sorted(peer["name"] for peer in peers if role in peer["roles"])
        if names:
            echo(f"connected {role}s: {', '.join(names)}")
    if not peers:
        echo("connected to no other hub")
    if "worker" in found:
        _print_worker(found["worker"])


def _print_worker(worker: dict[str, Any]) -> None:
    echo(
        f"running {len(worker['running'])}, waiting {worker['waiting']}, "
        f"results to deliver {worker['to_deliver']}"
    )
    for assignment_id in worker["running"]:
        echo(f"  {assignment_id}")
    for gateway, reason in worker["drained_by"].items():
        echo(f"no work from {gateway}: {reason}")
    echo(f"takes no work: {worker['refuses']}" if worker["refuses"] else "takes work")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    days, rest = divmod(int(seconds), 86400)
    clock = time.strftime("%H:%M", time.gmtime(rest))
    return f"{days} d {clock} h" if days else f"{clock} h"
