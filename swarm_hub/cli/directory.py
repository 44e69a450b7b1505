"""Making a configuration directory: the file, the keys and the first token."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarm_hub.const import (
    ADMIN_TOKEN_FILE,
    CONFIG_FILE,
    IDENTITY_KEY_FILE,
    SIGNER_KEY_FILE,
    STORAGE_DIR,
    TOKENS_FILE,
)
from swarm_hub.exceptions import HubError
from swarm_hub.models.peer_id import peer_id_from_public_key
from swarm_hub.util.ed25519 import SigningKey
from swarm_hub.util.files import load_or_create_key, write_atomic

_GATEWAY: Final = """\
# Takes jobs over REST and gives them to its workers. Who brings an invitation
# (`swarm-hub invite`) is admitted as one.
gateway:
  admission: token
"""
_API: Final = """\
api:
  host: 127.0.0.1
  port: {port}
"""
ROLES: Final = {
    "both": f"""\
{_GATEWAY}
# Runs shards itself; a device without a battery ignores the battery rules.
worker:
  slots: auto
  charging_only: true

{_API}""",
    "gateway": f"""\
{_GATEWAY}
{_API}""",
    "worker": """\
# Runs shards for the gateways below; a device without a battery ignores the battery rules.
worker:
  slots: auto
  charging_only: true

signer:
  trust: {trust}
""",
}
_COMMON: Final = """\
# Made by `swarm-hub {command}`. Every key: configuration.yaml.example and docs/components/.
hub:
  name: {name}

{role}
mesh:
  listen: [{listen}]
  bootnodes: {bootnodes}
"""


def configuration(
    command: str,
    role: str,
    name: str,
    *,
    port: int = 0,
    mesh_port: int,
    bootnodes: tuple[str, ...],
    trust: tuple[str, ...],
) -> str:
    """Return the text of a new configuration file."""
    return _COMMON.format(
        command=command,
        name=quoted(name),
        role=ROLES[role].format(port=port, trust=listed(trust)),
        listen=f"/ip4/0.0.0.0/tcp/{mesh_port}",
        bootnodes=listed(bootnodes),
    )


@dataclass(frozen=True, slots=True)
class Identity:
    """By what others know the hub of a directory."""

    peer_id: str
    public_key: bytes


def make_directory(config_dir: Path, text: str) -> Identity:
    """Write a new configuration, an admin token and keys; raises HubError."""
    storage = config_dir / STORAGE_DIR
    try:
        for folder in (config_dir, storage):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(config_dir / CONFIG_FILE, text.encode())
        _first_token(storage)
    except OSError as error:
        raise unwritable(config_dir, error) from error
    identity = load_or_create_key(storage / IDENTITY_KEY_FILE, "mesh identity")
    signer = load_or_create_key(storage / SIGNER_KEY_FILE, "signer's key")
    peer_id = peer_id_from_public_key(SigningKey(identity).public_key)
    return Identity(peer_id, SigningKey(signer).public_key)


def unwritable(config_dir: Path, error: OSError) -> HubError:
    """Return the message for a directory that can't be written."""
    return HubError(
        f"{config_dir}: the directory can't be written ({error.strerror}); choose another with -c"
    )


def listed(texts: tuple[str, ...]) -> str:
    """Return texts as a YAML list on one line."""
    return "[" + ", ".join(quoted(text) for text in texts) + "]"


def quoted(text: str) -> str:
    """Return text as a YAML scalar in quotes, whatever is in it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'


def _first_token(storage: Path) -> None:
    from swarm_hub.helpers.tokens import TokenFile

    _, secret = TokenFile(storage / TOKENS_FILE).create("admin", "admin", time.time())
    write_atomic(storage / ADMIN_TOKEN_FILE, f"{secret}\n".encode(), mode=0o600)
