"""The gateways of a swarm, as the one that answers knows them."""

import click

from swarm_hub.cli.calls import call
from swarm_hub.cli.options import Target, hub_options, json_option, print_json
from swarm_hub.cli.tables import Column, print_table


@click.command()
@hub_options
@json_option
def gateways(hub: Target, as_json: bool) -> None:
    """List the gateways that share the hub's store: where they are, and how busy."""
    found = call(hub, lambda swarm: swarm.gateways())
    if as_json:
        print_json(found)
        return
    print_table(
        [
            Column("NAME", [each["name"] for each in found]),
            Column("VERSION", [each["version"] for each in found], 3),
            Column("NODES", [str(each["nodes"]) for each in found], 1),
            Column("IDLE", [f"{each['idle_slots']} of {each['slots']}" for each in found], 2),
            Column("ANSWERS", ["yes" if each["answers"] else "" for each in found], 5),
            Column("API", [" ".join(each["urls"]) for each in found], 4, may_be_cut=True),
        ]
    )
