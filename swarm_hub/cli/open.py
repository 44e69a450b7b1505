"""`open`: the page of a hub in a browser, let in by a link that works once."""

import os
import sys
import webbrowser
from typing import Any, Final

import click

from swarm_hub.cli.calls import call
from swarm_hub.cli.options import Target, echo, hub_options, json_option, note, print_json
from swarm_hub.cli.qr import show_qr
from swarm_hub.client import SwarmClient, UnreachableError
from swarm_hub.credentials import is_here
from swarm_hub.exceptions import HubError
from swarm_hub.helpers.tokens import SCOPES

_PAGE: Final = "frontend"
_DISPLAYS: Final = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")


@click.command("open")
@hub_options
@click.option(
    "--scope", type=click.Choice(SCOPES), default="admin", show_default=True,
    help="What the page may do; with read it has no buttons.",
)  # fmt: skip
@click.option("--name", default="", help="What its token is called in swarm-hub token list.")
@click.option("--qr", is_flag=True, help="Show the link as a QR code, for a phone in the network.")
@click.option("--print", "only_print", is_flag=True, help="Print the link and open nothing.")
@json_option
def open_page(
    hub: Target, scope: str, name: str, qr: bool, only_print: bool, as_json: bool
) -> None:
    """Open the page of a hub in the browser, logged in.

    Without a display, and with --json, it prints the link. A link works once, for ten minutes; the
    token that it becomes ends when the page logs out, or after 30 days.
    """

    async def make(swarm: SwarmClient) -> dict[str, Any]:
        if _PAGE not in (await swarm.system())["components"]:
            raise HubError("this hub has no page: its configuration says frontend: false")
        return await swarm.page_code(scope, name)

    try:
        made = call(hub, make)
    except UnreachableError as error:
        raise UnreachableError(f"{error}; a hub without api: or gateway: has no page") from None
    link = f"{_address(hub.url, made['urls'], away=qr)}/#code={made['code']}"
    if as_json:
        print_json({"link": link, "expires_s": made["expires_s"]})
        return
    if qr:
        show_qr(link)
    elif not only_print and _has_display() and webbrowser.open(link):
        note("The page opens in your browser")
        return
    note(f"This link opens the page once, within {made['expires_s'] / 60:.0f} minutes:")
    echo(link)


def _address(asked: str, told: list[str], *, away: bool) -> str:
    """Return where a browser finds the hub; `away` is one on another device."""
    own = [] if asked.startswith("unix:") else [asked.partition("#")[0]]
    known = [url for url in (*own, *told) if not (away and is_here(url))]
    if not known:
        raise HubError(
            "this hub's API listens on this device alone; for others set api: host, such as "
            "0.0.0.0, best with tls: {self_signed: true}"
        )
    return known[0]


def _has_display() -> bool:
    return sys.platform == "darwin" or any(os.environ.get(name) for name in _DISPLAYS)
