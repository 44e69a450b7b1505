"""Options and output that several commands share."""

import json
import os
import platform
from collections.abc import Callable, Mapping
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

_DEFAULT_DIR: Final = Path("~/.config/swarm_hub")
_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - compared, not bound


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


def hub_options(command: _F) -> _F:
    """Add `--url` and `--token`, and the configuration directory they default from."""
    url = click.option(
        "--url",
        envvar="SWARM_HUB_URL",
        help="The hub's API address, with `#sha256=…` if its certificate is self-signed.",
    )
    token = click.option("--token", envvar="SWARM_HUB_TOKEN", help="An API token of that hub.")
    return config_option(url(token(command)))


def json_option(command: _F) -> _F:
    """Add `--json`."""
    option: Callable[[_F], _F] = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    return option(command)


def target(config_dir: Path, url: str | None, token: str | None) -> tuple[str, str | None]:
    """Return the address and token to use; those of a hub configured here are found by default."""
    if token is None:
        path = config_dir / STORAGE_DIR / ADMIN_TOKEN_FILE
        try:
            token = path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            token = None
        except OSError as error:
            raise HubError(f"{path}: can't be read: {error.strerror}") from error
    return url or _configured_url(config_dir), token


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
