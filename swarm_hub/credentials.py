"""Where a hub's API is and which token opens it: as somebody wrote it, or as it is found here."""

import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from swarm_hub.config import read_configuration
from swarm_hub.const import (
    ADMIN_TOKEN_FILE,
    API_SOCKET,
    CONFIG_FILE,
    CONFIG_VARIABLE,
    DEFAULT_API_PORT,
    DEFAULT_DIR,
    DEFAULT_URL,
    STORAGE_DIR,
    TLS_CERTIFICATE_FILE,
)
from swarm_hub.exceptions import HubError
from swarm_hub.util.key_pin import pin_of_file
from swarm_hub.util.unix_socket import answers_at

_BY_SOCKET: Final = "unix://"
_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - compared, not bound
_OWN_NAMES: Final = ("localhost", "127.0.0.1", "::1")
# Names and addresses of either kind; more a client might take for something else.
_HOST: Final = re.compile(r"[A-Za-z0-9._:%-]+", re.ASCII)


def read_address(text: str) -> str:
    """Read the address of an API, with or without its scheme and its port.

    What is behind a `#` is the client's to read, and so is what a socket on this device is called.
    Raises HubError that says what was expected.
    """
    if text.startswith(_BY_SOCKET):
        return text
    has_scheme = "://" in text
    refusal = HubError(f"expected http://HOST:PORT, such as {DEFAULT_URL}, got {text!r}")
    try:
        parts = urlsplit(text if has_scheme else f"http://{text}")
        port = parts.port
    except ValueError:
        raise refusal from None
    odd = parts.query or parts.username or (not has_scheme and parts.path not in ("", "/"))
    if parts.scheme not in ("http", "https") or not parts.hostname or odd:
        raise refusal
    if not _HOST.fullmatch(parts.hostname):
        raise refusal
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    # Who writes a scheme may mean its own port, as behind a proxy.
    usual = "" if has_scheme else f":{DEFAULT_API_PORT}"
    rest = parts.path.rstrip("/") + (f"#{parts.fragment}" if "#" in text else "")
    return f"{parts.scheme}://{host}{usual if port is None else f':{port}'}{rest}"


def read_addresses(text: str) -> list[str]:
    """Read the addresses of a swarm's gateways, with commas between them; raises HubError."""
    if text.startswith(_BY_SOCKET):
        return [text]
    return [read_address(each.strip()) for each in text.split(",")]


def is_here(address: str) -> bool:
    """Whether an address that was read leads to this device, whatever else there is."""
    return address.startswith(_BY_SOCKET) or urlsplit(address).hostname in _OWN_NAMES


def found_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the configuration directory that commands use where none is given."""
    return Path(environ.get(CONFIG_VARIABLE) or DEFAULT_DIR).expanduser()


def admin_token(config_dir: Path, addresses: Sequence[str] | None = None) -> str | None:
    """Return the token that `init` left in a directory, None without; raises HubError.

    It is that of the hub there: no `addresses` are shown it that do not lead to this device. None
    are those of that hub itself.
    """
    if addresses is not None and not all(map(is_here, addresses)):
        return None
    path = config_dir / STORAGE_DIR / ADMIN_TOKEN_FILE
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        raise HubError(f"{path}: can't be read: {said}") from error


def configured_url(config_dir: Path) -> str:
    """Return how the hub of a directory is reached: by its unix socket, else as it is configured.

    The key of its certificate is pinned, so that it has not to be issued for the local address.
    """
    if not (config_dir / CONFIG_FILE).is_file():
        return DEFAULT_URL
    path = (config_dir / API_SOCKET).absolute()
    if answers_at(path):
        return f"{_BY_SOCKET}{quote(os.fspath(path))}"
    return _tcp_url(config_dir, _WILDCARDS)


def url_for_others(config_dir: Path) -> str | None:
    """Return the address of the API for other devices; None if there is none for them."""
    own = platform.node()
    url = _tcp_url(config_dir, dict.fromkeys(_WILDCARDS, own))
    return None if urlsplit(url).hostname in _OWN_NAMES else url


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
