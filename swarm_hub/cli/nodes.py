"""Commands on nodes."""

from pathlib import Path

import click

from swarm_hub.cli.jobs import call
from swarm_hub.cli.options import hub_options, json_option, note, print_json
from swarm_hub.util.units import format_size


@click.group()
def node() -> None:
    """List, approve, ban and unban nodes."""


@node.command("list")
@hub_options
@json_option
def list_nodes(config_dir: Path, url: str | None, token: str | None, as_json: bool) -> None:
    """List the nodes this gateway has met."""
    found = call((config_dir, url, token), lambda swarm: swarm.nodes())
    if as_json:
        print_json(found)
        return
    if not found:
        note("No node has joined yet; see docs/user-guide.md for adding one")
    for each in found:
        telemetry = each["telemetry"]
        memory, cpu = telemetry["available_memory_bytes"], telemetry["cpu_percent"]
        details = [
            f"{each['slots']} slots" if each["slots"] else "",
            f"cpu {cpu:.0f} %" if cpu is not None else "",
            f"{format_size(memory)} free" if memory is not None else "",
            each["refuses"] or "",
            each["ban_reason"] or "",
        ]
        text = ", ".join(detail for detail in details if detail)
        click.echo(f"{each['node_id']}  {each['state']:7}  {each['name']}  {text}")


@node.command()
@hub_options
@click.argument("node_id")
@click.option("--reason", default="", help="Why; it is kept with the ban.")
def ban(config_dir: Path, url: str | None, token: str | None, node_id: str, reason: str) -> None:
    """Ban a node: it is refused at connection until it is unbanned."""
    call((config_dir, url, token), lambda swarm: swarm.node_action(node_id, "ban", reason=reason))
    note(f"{node_id} is banned")


@node.command()
@hub_options
@click.argument("node_id")
def unban(config_dir: Path, url: str | None, token: str | None, node_id: str) -> None:
    """Lift a ban."""
    call((config_dir, url, token), lambda swarm: swarm.node_action(node_id, "unban"))
    note(f"{node_id} may come back")


@node.command()
@hub_options
@click.argument("node_id")
def approve(config_dir: Path, url: str | None, token: str | None, node_id: str) -> None:
    """Admit a node that is pending, or one that is still to come, by its peer id."""
    call((config_dir, url, token), lambda swarm: swarm.approve(node_id))
    note(f"{node_id} is admitted at its next try, within seconds if it is waiting")
