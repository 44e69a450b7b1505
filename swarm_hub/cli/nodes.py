"""Commands on nodes."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from swarm_hub.cli.calls import call
from swarm_hub.cli.options import (
    Target,
    echo,
    hub_options,
    json_option,
    note,
    pairs,
    print_json,
)
from swarm_hub.cli.selection import the_node
from swarm_hub.cli.tables import Column, print_table
from swarm_hub.cli.wording import local_time, node_id_for_people, short_node_id
from swarm_hub.client import SwarmClient
from swarm_hub.models.node import READY
from swarm_hub.util.units import format_size, parse_duration

_TIMES: Final = ("first_seen", "last_seen", "ban_until")
# Of the peer id of an Ed25519 key.
_NODE_ID_CHARS: Final = 52


@click.group()
def node() -> None:
    """List, approve, label, ban and drain nodes.

    NODE is a node's name, its peer id, or so much of the beginning that only one node has it.
    """


@node.command("list")
@hub_options
@json_option
def list_nodes(hub: Target, as_json: bool) -> None:
    """List the nodes this gateway has met."""
    found = call(hub, lambda swarm: swarm.nodes())
    if as_json:
        print_json(found)
        return
    if not found:
        note("No node has joined yet; see docs/user-guide.md for adding one")
        return
    print_table(node_columns(found))


def node_columns(found: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Return the table of nodes."""
    return [
        Column("NODE", [node_id_for_people(each["node_id"]) for each in found], 2),
        Column("STATE", [each["state"] for each in found], 1),
        Column("NAME", [each["name"] for each in found], may_be_cut=True),
        Column("BUSY", [_busy(each) for each in found], 3, is_number=True),
        Column("DETAILS", [_details(each) for each in found], 4, may_be_cut=True),
    ]


def _busy(node: Mapping[str, Any]) -> str:
    return "" if node["slots"] is None else f"{node['assignments']}"


def _details(node: Mapping[str, Any]) -> str:
    telemetry = node["telemetry"]
    memory, cpu = telemetry["available_memory_bytes"], telemetry["cpu_percent"]
    details = [
        node["drain_reason"] or node["refuses"] or "",
        _ban(node["ban_reason"], node["ban_until"]),
        _slots(node["slots"], telemetry.get("slower")),
        *_unready(telemetry),
        f"cpu {cpu:.0f} %" if cpu is not None else "",
        f"{format_size(memory)} free" if memory is not None else "",
        _battery(telemetry),
        f"{warmth:.0f} °C" if (warmth := telemetry["temperature_c"]) is not None else "",
        telemetry.get("network") or "",
        "metered" if telemetry.get("metered") else "",
    ]
    return ", ".join(detail for detail in details if detail)


@node.command()
@hub_options
@json_option
@click.argument("node_id", metavar="NODE")
def show(hub: Target, as_json: bool, node_id: str) -> None:
    """Show all that this gateway knows of a node; also how far it is trusted."""
    found = call(hub, lambda swarm: the_node(swarm, node_id))
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        for inner, text in value.items() if isinstance(value, dict) else [("", value)]:
            if text not in (None, [], {}):
                shown = local_time(text) if name in _TIMES else text
                echo(f"{f'{name} {inner}'.strip():34}{shown}")


@node.command()
@hub_options
@json_option
@click.argument("node_id", required=False, metavar="NODE|NETWORK")
@click.option("--network", help="Ban every address of a range, such as 10.1.0.0/16.")
@click.option("--for", "duration", help="How long, such as 1h; for ever by default.")
@click.option("--reason", default="", help="Why; it is kept with the ban.")
@click.option("--force", is_flag=True, help="Ban a network even if the gateway itself is in it.")
def ban(
    hub: Target,
    node_id: str | None,
    network: str | None,
    duration: str | None,
    reason: str,
    force: bool,
    as_json: bool,
) -> None:
    """Ban a node or a network: it is refused at connection, in both directions."""
    for_s = _seconds(duration)
    chosen, is_network = _chosen(node_id, network)
    if is_network:
        ban = call(
            hub,
            lambda swarm: swarm.ban_network(chosen, reason=reason, for_s=for_s, force=force),
        )
        _tell(as_json, ban, f"{ban['network']} is banned{_until(ban['until'])}")
        return
    told = call(hub, lambda swarm: _act(swarm, chosen, "ban", reason=reason, for_s=for_s))
    _tell(as_json, told, f"{_named(told)} is banned{_until(told['ban_until'])}")


@node.command()
@hub_options
@json_option
@click.argument("node_id", required=False, metavar="NODE|NETWORK")
@click.option("--network", help="Lift the ban of a range, such as 10.1.0.0/16.")
def unban(hub: Target, as_json: bool, node_id: str | None, network: str | None) -> None:
    """Lift the ban of a node or a network."""
    chosen, is_network = _chosen(node_id, network)
    if is_network:
        call(hub, lambda swarm: swarm.unban_network(chosen))
        _tell(as_json, {"network": chosen}, f"{chosen} may come back")
        return
    told = call(hub, lambda swarm: _act(swarm, chosen, "unban"))
    _tell(as_json, told, f"{_named(told)} may come back")


@node.command()
@hub_options
@json_option
def bans(hub: Target, as_json: bool) -> None:
    """List the nodes and networks that are banned, and until when."""
    networks = call(hub, lambda swarm: swarm.banned_networks())
    nodes = [each for each in call(hub, lambda swarm: swarm.nodes()) if each["ban_reason"]]
    if as_json:
        print_json({"nodes": nodes, "networks": networks})
        return
    if not nodes and not networks:
        note("No node or network is banned")
    for each in nodes:
        text = _ban(each["ban_reason"], each["ban_until"])
        echo(f"{node_id_for_people(each['node_id'])}  {each['name']}  {text}")
    for ban in networks:
        echo(f"{ban['network']}  {_ban(ban['reason'], ban['until'])}")


@node.command()
@hub_options
@json_option
@click.argument("node_id", metavar="NODE")
@click.option("--reason", default="", help="Why; `node list` shows it.")
def drain(hub: Target, as_json: bool, node_id: str, reason: str) -> None:
    """Give a node no more work; what it has not begun goes to others."""
    told = call(hub, lambda swarm: _act(swarm, node_id, "drain", reason=reason))
    _tell(as_json, told, f"{_named(told)} gets no more work and is {told['state']}")


@node.command()
@hub_options
@json_option
@click.argument("node_id", metavar="NODE")
def undrain(hub: Target, as_json: bool, node_id: str) -> None:
    """Give a drained node work again."""
    told = call(hub, lambda swarm: _act(swarm, node_id, "undrain"))
    _tell(as_json, told, f"{_named(told)} gets work again")


@node.command()
@hub_options
@json_option
@click.argument("node_id", metavar="NODE")
@click.argument("labels", nargs=-1, callback=pairs, metavar="[NAME=TEXT]...")
@click.option("--remove", multiple=True, metavar="NAME", help="Take one away (repeatable).")
def label(
    hub: Target, as_json: bool, node_id: str, labels: dict[str, str], remove: tuple[str, ...]
) -> None:
    """Give a node labels beside those of its configuration, for jobs that ask for them."""
    changed = {**labels, **dict.fromkeys(remove)}
    if not changed:
        raise click.UsageError("say which, such as gpu=yes, or --remove gpu")
    told = call(hub, lambda swarm: _act(swarm, node_id, "label", labels=changed))
    now = ", ".join(f"{name}={text}" for name, text in told["labels"].items())
    _tell(as_json, told, f"{_named(told)} has {f'the labels {now}' if now else 'no labels'}")


@node.command()
@hub_options
@json_option
@click.argument("node_id", metavar="NODE")
def approve(hub: Target, as_json: bool, node_id: str) -> None:
    """Admit a node that is pending, or one that is still to come, by its peer id."""

    async def work(swarm: SwarmClient) -> dict[str, Any]:
        return await swarm.approve(await _id_of(swarm, node_id))

    told = call(hub, work)
    said = f"{told['node_id']} is admitted at its next try, within seconds if it is waiting"
    _tell(as_json, told, said)


def _tell(as_json: bool, told: Any, text: str) -> None:
    """Say what was done, to a program or to a person."""
    if as_json:
        print_json(told)
    else:
        note(text)


async def _id_of(swarm: SwarmClient, text: str) -> str:
    """Return a node's id; one that the gateway has not met yet is named by all of its id."""
    return text if len(text) >= _NODE_ID_CHARS else str((await the_node(swarm, text))["node_id"])


async def _act(swarm: SwarmClient, text: str, action: str, **content: Any) -> dict[str, Any]:
    """Do something to the node that is meant; returns what it is then, with its name."""
    chosen = await the_node(swarm, text)
    return {**chosen, **await swarm.node_action(chosen["node_id"], action, **content)}


def _named(node: Mapping[str, Any]) -> str:
    return f"{node['name']} ({short_node_id(node['node_id'])})"


def _slots(slots: int | None, slower: str | None) -> str:
    if not slots:
        return ""
    text = "1 slot" if slots == 1 else f"{slots} slots"
    return f"{text} ({slower})" if slower else text


def _unready(telemetry: Mapping[str, Any]) -> list[str]:
    """Return what a node says of the runtimes that it is not ready for."""
    return [said for said in (telemetry.get("runtimes") or {}).values() if said != READY]


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
    return "" if until is None else f" until {local_time(until)}"
