"""Invitations: made by a running gateway, shown as a link and a QR code."""

import sys

import click

from swarm_hub.cli.calls import call
from swarm_hub.cli.options import Target, echo, hub_options, json_option, note, print_json, seconds
from swarm_hub.cli.qr import show_qr
from swarm_hub.cli.tables import Column, print_table
from swarm_hub.cli.wording import local_time, node_id_for_people


@click.command()
@hub_options
@json_option
@click.option(
    "--expires",
    callback=seconds,
    default="1h",
    show_default=True,
    help="How long the link can be used, such as 10m or 2d; at most 30 days.",
)
@click.option(
    "--address",
    "addresses",
    multiple=True,
    help="Another address of this gateway, such as /dns4/home.example/tcp/4001 (repeatable).",
)
@click.option(
    "--owner",
    help="Whose device it is: an owner's devices share one vote where results are compared.",
)
@click.option("--no-qr", is_flag=True, help="Show no QR code.")
@click.option("--list", "list_them", is_flag=True, help="List invitations instead of making one.")
@click.option("--revoke", metavar="ID", help="Revoke this invitation instead of making one.")
def invite(
    hub: Target,
    as_json: bool,
    expires: float,
    addresses: tuple[str, ...],
    owner: str | None,
    no_qr: bool,
    list_them: bool,
    revoke: str | None,
) -> None:
    """Make a link with which one device joins this gateway as a worker.

    On the device: swarm-hub join LINK. The link holds a secret: give it to nobody else.
    """
    if revoke is not None:
        call(hub, lambda swarm: swarm.revoke_invite(revoke))
        note(f"Invitation {revoke} is revoked")
        return
    if list_them:
        _list(hub, as_json)
        return
    made = call(hub, lambda swarm: swarm.invite(expires, addresses, owner))
    if as_json:
        print_json(made)
        return
    if not no_qr and sys.stderr.isatty():
        # Capitals take fewer squares.
        show_qr(made["link"].upper())
    until = local_time(made["expires_at"])
    note(f"This link admits one device until {until}; run on it: swarm-hub join LINK")
    note(f"It leads to {', '.join(each.partition('/p2p/')[0] for each in made['addresses'])}")
    echo(made["link"])


def _list(hub: Target, as_json: bool) -> None:
    found = call(hub, lambda swarm: swarm.invites())
    if as_json:
        print_json(found)
        return
    if not found:
        note("There is no invitation; make one with: swarm-hub invite")
        return
    by = [each["used_by"] or "" for each in found]
    print_table(
        [
            Column("ID", [each["id"] for each in found]),
            Column("STATE", [each["state"] for each in found], 1),
            Column("EXPIRES", [local_time(each["expires_at"]) for each in found], 2),
            Column("OWNER", [each["owner"] or "" for each in found], 4, may_be_cut=True),
            Column("USED BY", [node_id_for_people(each) for each in by], 3),
        ]
    )
