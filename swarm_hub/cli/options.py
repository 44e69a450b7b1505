"""Options and output that several commands share."""

import functools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from swarm_hub.const import (
    CONFIG_FILE,
    CONFIG_VARIABLE,
    DEFAULT_DIR,
    RESTORE_FILE,
    TOKEN_VARIABLE,
    URL_VARIABLE,
)
from swarm_hub.exceptions import HubError
from swarm_hub.util.printable import printable
from swarm_hub.util.units import parse_duration

_F = TypeVar("_F", bound=Callable[..., Any])
_T = TypeVar("_T")


def config_option(command: _F) -> _F:
    """Add `-c/--config DIR`."""
    option: Callable[[_F], _F] = click.option(
        "-c",
        "--config",
        "config_dir",
        envvar=CONFIG_VARIABLE,
        type=click.Path(file_okay=False, path_type=Path),
        default=lambda: Path(DEFAULT_DIR).expanduser(),
        show_default=DEFAULT_DIR,
        help="The configuration directory.",
    )
    return option(command)


@dataclass(frozen=True, slots=True)
class Target:
    """The hub that a command talks to."""

    url: str
    token: str | None


def hub_options(command: Callable[..., _T]) -> Callable[..., _T]:
    """Add `--url`, `--token` and the configuration directory they default from; gives a `hub`."""

    @functools.wraps(command)
    def with_target(*, config_dir: Path, url: str | None, token: str | None, **rest: Any) -> _T:
        return command(hub=target(config_dir, url, token), **rest)

    of_url = click.option(
        "--url",
        envvar=URL_VARIABLE,
        callback=_address,
        metavar="[http://]HOST[:PORT]",
        help=(
            "The address of the hub's API, with `#sha256=…` if its certificate is self-signed; by "
            "default that of the hub configured here."
        ),
    )
    of_token = click.option(
        "--token",
        envvar=TOKEN_VARIABLE,
        help=(
            "An API token of that hub; by default, for a hub on this device, the one in the "
            "configuration directory."
        ),
    )
    return config_option(of_url(of_token(with_target)))


def json_option(command: _F) -> _F:
    """Add `--json`."""
    option: Callable[[_F], _F] = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    return option(command)


def print_json(content: Any) -> None:
    """Print JSON on stdout."""
    echo(json.dumps(content, indent=2, ensure_ascii=False))


def echo(text: str = "") -> None:
    """Print a line on stdout; whatever a stranger put into it, it can't act on the terminal."""
    click.echo(printable(text))


def note(text: str) -> None:
    """Print a message for people on stderr."""
    click.echo(printable(text), err=True)


def working_dir(config_dir: Path) -> Path:
    """Return an existing configuration directory; raises HubError with what to do."""
    if (config_dir / RESTORE_FILE).is_file():
        _finish_restore(config_dir)
    if not (config_dir / CONFIG_FILE).is_file():
        raise HubError(
            f"{config_dir}: there is no {CONFIG_FILE}; make one with: "
            f"swarm-hub init -c {os.fspath(config_dir)}"
        )
    return config_dir


def _finish_restore(config_dir: Path) -> None:
    """Complete an interrupted restore; until then the directory is not a hub's."""
    from swarm_hub.runner import locked
    from swarm_hub.storage.backup.unfinished import finish_restore

    with locked(config_dir):
        finish_restore(config_dir)


def target(config_dir: Path, url: str | None, token: str | None) -> Target:
    """Return the hub to talk to; a hub configured here is found by default, with its token.

    Raises HubError for a directory that was named and is no hub's.
    """
    # A hub that is run needs none of it.
    from swarm_hub.credentials import admin_token, configured_url, read_addresses

    named = config_dir != Path(DEFAULT_DIR).expanduser()
    if url is None and named and not (config_dir / CONFIG_FILE).is_file():
        raise HubError(
            f"{config_dir}: there is no {CONFIG_FILE}; name the directory of a hub with -c, or its "
            "address with --url"
        )
    if token is None:
        token = admin_token(config_dir, None if url is None else read_addresses(url))
    return Target(url or configured_url(config_dir), token)


def _address(_ctx: object, _option: object, text: str | None) -> str | None:
    """Read the addresses of a swarm's gateways; the callback of `--url`."""
    from swarm_hub.credentials import read_addresses

    try:
        return None if text is None else ",".join(read_addresses(text))
    except HubError as error:
        raise click.BadParameter(str(error)) from None


def seconds(_ctx: object, _option: object, text: str | None) -> float | None:
    """Read a duration; the callback of options such as `--expires 10m`."""
    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def pairs(_ctx: object, _option: object, texts: tuple[str, ...]) -> dict[str, str]:
    """Read options such as `--label kind=nightly`."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"expected NAME=TEXT, got {text!r}")
        found[name] = value
    return found
