"""Invitations: made by a running gateway, shown as a link and a QR code."""

import shutil
import sys
from pathlib import Path
from typing import Final

import click

from swarm_hub.cli.jobs import call
from swarm_hub.cli.options import echo, hub_options, json_option, note, print_json, seconds

_QUIET_ZONE: Final = 2


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
    config_dir: Path,
    url: str | None,
    token: str | None,
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
    options = (config_dir, url, token)
    if revoke is not None:
        call(options, lambda swarm: swarm.revoke_invite(revoke))
        note(f"Invitation {revoke} is revoked")
        return
    if list_them:
        _list(options, as_json)
        return
    made = call(options, lambda swarm: swarm.invite(expires, addresses, owner))
    if as_json:
        print_json(made)
        return
    if not no_qr and sys.stderr.isatty():
        _show_qr(made["link"])
    note(f"This link admits one device until {made['expires_at']}; run on it: swarm-hub join LINK")
    note(f"It leads to {', '.join(each.partition('/p2p/')[0] for each in made['addresses'])}")
    echo(made["link"])


def _list(options: tuple[Path, str | None, str | None], as_json: bool) -> None:
    found = call(options, lambda swarm: swarm.invites())
    if as_json:
        print_json(found)
        return
    for each in found:
        used = f"by {each['used_by']}" if each["used_by"] else ""
        echo(f"{each['id']}  {each['state']:7}  {each['expires_at']}  {used}".rstrip())


def _show_qr(link: str) -> None:
    """Draw the link on stderr, in capitals, which take fewer squares in a QR code."""
    import segno

    code = segno.make(link.upper(), error="l", micro=False)
    width = code.symbol_size(border=_QUIET_ZONE)[0]
    if shutil.get_terminal_size().columns < width:
        note(f"The terminal is too narrow for a QR code, which needs {width} columns")
        return
    try:
        "█▀▄".encode(sys.stderr.encoding or "ascii")
    except UnicodeEncodeError:
        note("The terminal can't show a QR code, which needs UTF-8")
        return
    code.terminal(out=sys.stderr, border=_QUIET_ZONE, compact=True)
