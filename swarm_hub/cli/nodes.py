"""Commands on nodes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from swarm_hub.cli.jobs import call
from swarm_hub.cli.options import echo, hub_options, json_option, note, print_json
from swarm_hub.util.units import format_size, parse_duration


@click.group()
def node() -> None:
    """List, approve, ban and drain nodes."""


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
            _slots(each["slots"], telemetry.get("slower")),
            f"cpu {cpu:.0f} %" if cpu is not None else "",
            f"{format_size(memory)} free" if memory is not None else "",
            _battery(telemetry),
            f"{warmth:.0f} °C" if (warmth := telemetry["temperature_c"]) is not None else "",
            telemetry.get("network") or "",
            "metered" if telemetry.get("metered") else "",
            each["drain_reason"] or each["refuses"] or "",
            _ban(each["ban_reason"], each["ban_until"]),
        ]
        text = ", ".join(detail for detail in details if detail)
        echo(f"{each['node_id']}  {each['state']:8}  {each['name']}  {text}")


@node.command()
@hub_options
@json_option
@click.argument("node_id", metavar="NODE")
def show(config_dir: Path, url: str | None, token: str | None, as_json: bool, node_id: str) -> None:
    """Show all that this gateway knows of a node; NODE is its id or its name."""
    found = call((config_dir, url, token), lambda swarm: swarm.nodes())
    chosen = [each for each in found if node_id in (each["node_id"], each["name"])]
    if not chosen:
        raise click.ClickException(f"there is no node {node_id}; see: swarm-hub node list")
    if as_json:
        print_json(chosen[0] if len(chosen) == 1 else chosen)
        return
    for each in chosen:
        for name, value in each.items():
            for inner, text in value.items() if isinstance(value, dict) else [("", value)]:
                if text not in (None, [], {}):
                    echo(f"{f'{name} {inner}'.strip():34}{text}")


@node.command()
@hub_options
@click.argument("node_id", required=False, metavar="NODE|NETWORK")
@click.option("--network", help="Ban every address of a range, such as 10.1.0.0/16.")
@click.option("--for", "duration", help="How long, such as 1h; for ever by default.")
@click.option("--reason", default="", help="Why; it is kept with the ban.")
@click.option("--force", is_flag=True, help="Ban a network even if the gateway itself is in it.")
def ban(
    config_dir: Path,
    url: str | None,
    token: str | None,
    node_id: str | None,
    network: str | None,
    duration: str | None,
    reason: str,
    force: bool,
) -> None:
    """Ban a node or a network: it is refused at connection, in both directions."""
    where = (config_dir, url, token)
    for_s = _seconds(duration)
    chosen, is_network = _chosen(node_id, network)
    if is_network:
        told = call(
            where,
            lambda swarm: swarm.ban_network(chosen, reason=reason, for_s=for_s, force=force),
        )
        note(f"{told['network']} is banned{_until(told['until'])}")
        return
    told = call(where, lambda swarm: swarm.node_action(chosen, "ban", reason=reason, for_s=for_s))
    note(f"{chosen} is banned{_until(told['ban_until'])}")


@node.command()
@hub_options
@click.argument("node_id", required=False, metavar="NODE|NETWORK")
@click.option("--network", help="Lift the ban of a range, such as 10.1.0.0/16.")
def unban(
    config_dir: Path, url: str | None, token: str | None, node_id: str | None, network: str | None
) -> None:
    """Lift the ban of a node or a network."""
    chosen, is_network = _chosen(node_id, network)
    if is_network:
        call((config_dir, url, token), lambda swarm: swarm.unban_network(chosen))
    else:
        call((config_dir, url, token), lambda swarm: swarm.node_action(chosen, "unban"))
    note(f"{chosen} may come back")


@node.command()
@hub_options
@json_option
def bans(config_dir: Path, url: str | None, token: str | None, as_json: bool) -> None:
    """List the nodes and networks that are banned, and until when."""
    where = (config_dir, url, token)
    networks = call(where, lambda swarm: swarm.banned_networks())
    nodes = [each for each in call(where, lambda swarm: swarm.nodes()) if each["ban_reason"]]
    if as_json:
        print_json({"nodes": nodes, "networks": networks})
        return
    if not nodes and not networks:
        note("No node or network is banned")
    for each in nodes:
        text = _ban(each["ban_reason"], each["ban_until"])
        echo(f"{each['node_id']}  {each['name']}  {text}")
    for each in networks:
        echo(f"{each['network']}  {_ban(each['reason'], each['until'])}")


@node.command()
@hub_options
@click.argument("node_id", metavar="NODE")
@click.option("--reason", default="", help="Why; `node list` shows it.")
def drain(config_dir: Path, url: str | None, token: str | None, node_id: str, reason: str) -> None:
    """Give a node no more work; what it has not begun goes to others."""
    told = call(
        (config_dir, url, token), lambda swarm: swarm.node_action(node_id, "drain", reason=reason)
    )
    note(f"{node_id} gets no more work and is {told['state']}")


@node.command()
@hub_options
@click.argument("node_id", metavar="NODE")
def undrain(config_dir: Path, url: str | None, token: str | None, node_id: str) -> None:
    """Give a drained node work again."""
    call((config_dir, url, token), lambda swarm: swarm.node_action(node_id, "undrain"))
    note(f"{node_id} gets work again")


@node.command()
@hub_options
@click.argument("node_id")
def approve(config_dir: Path, url: str | None, token: str | None, node_id: str) -> None:
    """Admit a node that is pending, or one that is still to come, by its peer id."""
    call((config_dir, url, token), lambda swarm: swarm.approve(node_id))
    note(f"{node_id} is admitted at its next try, within seconds if it is waiting")


def _slots(slots: int | None, slower: str | None) -> str:
    if not slots:
        return ""
    return f"{slots} slots ({slower})" if slower else f"{slots} slots"


def _battery(telemetry: Mapping[str, Any]) -> str:
    percent, charging = telemetry["battery_percent"], telemetry["charging"]
    if percent is None:
        return "battery unknown" if telemetry["has_battery"] else ""
    source = telemetry.get("power_source")
    plug = {None: "", False: " unplugged", True: f" on {source}" if source else " plugged in"}
    return f"battery {percent:.0f} %{plug[charging]}"


def _chosen(node_id: str | None, network: str | None) -> tuple[str, bool]:
    """Return what is to be banned or unbanned, and whether it is a network."""
    if (node_id is None) == (network is None):
        raise click.UsageError("name one node or one network, such as 10.1.0.0/16")
    chosen = network if node_id is None else node_id
    assert chosen is not None
    # Peer ids are base58, which has neither character.
    return chosen, network is not None or any(mark in chosen for mark in "/.:")


def _seconds(duration: str | None) -> float | None:
    if duration is None:
        return None
    try:
        return parse_duration(duration)
    except ValueError as error:
        raise click.UsageError(f"--for: {error}") from None


def _ban(reason: str | None, until: str | None) -> str:
    return "" if reason is None else f"{reason}{_until(until)}"


def _until(until: str | None) -> str:
    return "" if until is None else f" until {until}"
