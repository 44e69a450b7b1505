"""Options and output that several commands share."""

import functools
import json
import os
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

import click

from swarm_hub.config import read_configuration
from swarm_hub.const import (
    ADMIN_TOKEN_FILE,
    API_SOCKET,
    CONFIG_FILE,
    DEFAULT_API_PORT,
    DEFAULT_URL,
    RESTORE_FILE,
    STORAGE_DIR,
    TLS_CERTIFICATE_FILE,
)
from swarm_hub.exceptions import HubError
from swarm_hub.util.key_pin import pin_of_file
from swarm_hub.util.printable import printable
from swarm_hub.util.units import parse_duration
from swarm_hub.util.unix_socket import answers_at

_F = TypeVar("_F", bound=Callable[..., Any])
_T = TypeVar("_T")

_DEFAULT_DIR: Final = Path("~/.config/swarm_hub")
_BY_SOCKET: Final = "unix://"
_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - compared, not bound
# Names and addresses of either kind; more a client might take for something else.
_HOST: Final = re.compile(r"[A-Za-z0-9._:%-]+", re.ASCII)


def config_option(command: _F) -> _F:
    """Add `-c/--config DIR`."""
    option: Callable[[_F], _F] = click.option(
        "-c",
        "--config",
        "config_dir",
        envvar="SWARM_HUB_CONFIG",
        type=click.Path(file_okay=False, path_type=Path),
        default=lambda: _DEFAULT_DIR.expanduser(),
        show_default=str(_DEFAULT_DIR),
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
        envvar="SWARM_HUB_URL",
        callback=_address,
        metavar="[http://]HOST[:PORT]",
        help=(
            "The address of the hub's API, with `#sha256=…` if its certificate is self-signed; by "
            "default that of the hub configured here."
        ),
    )
    of_token = click.option(
        "--token",
        envvar="SWARM_HUB_TOKEN",
        help="An API token of that hub; by default the one in the configuration directory.",
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
    """Return the hub to talk to; a hub configured here is found by default, with its token."""
    if token is None:
        path = config_dir / STORAGE_DIR / ADMIN_TOKEN_FILE
        try:
            token = path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            token = None
        except (OSError, UnicodeDecodeError) as error:
            said = error.strerror if isinstance(error, OSError) else error
            raise HubError(f"{path}: can't be read: {said}") from error
    return Target(url or _configured_url(config_dir), token)


def _address(_ctx: object, _option: object, text: str | None) -> str | None:
    """Read the address of an API, with or without its scheme and its port.

    What is behind a `#` is the client's to read, and so is what a socket on this device is called.
    """
    if text is None or text.startswith(_BY_SOCKET):
        return text
    has_scheme = "://" in text
    said = f"expected http://HOST:PORT, such as {DEFAULT_URL}, got {text!r}"
    try:
        parts = urlsplit(text if has_scheme else f"http://{text}")
        port = parts.port
    except ValueError:
        raise click.BadParameter(said) from None
    odd = parts.query or parts.username or (not has_scheme and parts.path not in ("", "/"))
    if parts.scheme not in ("http", "https") or not parts.hostname or odd:
        raise click.BadParameter(said)
    if not _HOST.fullmatch(parts.hostname):
        raise click.BadParameter(said)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    # Who writes a scheme may mean its own port, as behind a proxy.
    usual = "" if has_scheme else f":{DEFAULT_API_PORT}"
    rest = parts.path.rstrip("/") + (f"#{parts.fragment}" if parts.fragment else "")
    return f"{parts.scheme}://{host}{usual if port is None else f':{port}'}{rest}"


def _configured_url(config_dir: Path) -> str:
    """Return how the hub of a directory is reached: by its unix socket, else as it is configured.

    The key of its certificate is pinned, so that it has not to be issued for the local address.
    """
    if not (config_dir / CONFIG_FILE).is_file():
        return DEFAULT_URL
    path = (config_dir / API_SOCKET).absolute()
    if answers_at(path):
        return f"unix://{quote(os.fspath(path))}"
    return _tcp_url(config_dir, _WILDCARDS)


def url_for_others(config_dir: Path) -> str | None:
    """Return the address of the API for other devices; None if there is none for them."""
    own = platform.node()
    url = _tcp_url(config_dir, dict.fromkeys(_WILDCARDS, own))
    return None if urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1") else url


def _tcp_url(config_dir: Path, wildcards: Mapping[str, str]) -> str:
    """Return the configured address, with the pin of the certificate."""
    api = read_configuration(config_dir, "hub").sections.get("api") or {}
    host, port = api.get("host", "127.0.0.1"), api.get("port", DEFAULT_API_PORT)
    address = f"{wildcards.get(host, host)}:{port}"
    tls = api.get("tls")
    if not isinstance(tls, dict):
        return f"http://{address}"
    certificate = tls.get("certificate", f"{STORAGE_DIR}/{TLS_CERTIFICATE_FILE}")
    try:
        return f"https://{address}#sha256={pin_of_file(config_dir / str(certificate)).hex()}"
    except (OSError, ValueError):
        # Whoever connects says what is wrong with it.
        return f"https://{address}"


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
