"""Making a configuration directory: the file, the keys and the first token."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import swarm_hub
from swarm_hub.const import (
    ADMIN_TOKEN_FILE,
    CONFIG_FILE,
    IDENTITY_KEY_FILE,
    SCHEMA_FILE,
    SIGNER_KEY_FILE,
    STORAGE_DIR,
    TOKENS_FILE,
)
from swarm_hub.exceptions import HubError
from swarm_hub.models.peer_id import peer_id_from_public_key
from swarm_hub.util.ed25519 import SigningKey
from swarm_hub.util.files import load_or_create_key, write_atomic

# That of what is built in, which `script/docs pages` writes into the package.
BUILT_IN_SCHEMA: Final = Path(swarm_hub.__file__).parent / SCHEMA_FILE

_GATEWAY: Final = """\
# Takes jobs over REST and gives them to its workers. Who brings an invitation
# (`swarm-hub invite`) is admitted as one.
gateway:
  admission: token
"""
_API: Final = """\
# REST, websocket and the page, for this device alone. 0.0.0.0 lets others in the network in, best
# with `tls: {{self_signed: true}}`.
api:
  host: 127.0.0.1
  port: {port}
"""
_WORKER: Final = """\
# Runs shards{for_whom}; a device without a battery ignores the battery rules.
worker:
  # How many at once: a number, or auto, which is half of the cores.
  slots: auto
  charging_only: true
"""
ROLES: Final = {
    "both": f"""\
{_GATEWAY}
{_WORKER.format(for_whom=" itself")}
{_API}""",
    "gateway": f"""\
{_GATEWAY}
{_API}""",
    "worker": f"""\
{_WORKER.format(for_whom=" for the gateways below")}
# The public keys of the gateways whose work it runs; `swarm-hub join LINK` adds them.
signer:
  trust: {{trust}}
""",
}
_COMMON: Final = """\
# yaml-language-server: $schema={schema}
# Made by `swarm-hub {command}`. Every key: configuration.yaml.example and docs/components/.
# After a change: `swarm-hub check`.

# What this device is called.
hub:
  name: {name}

{role}
# Connections to other hubs: where it listens, and the gateways that it stays connected to.
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
        schema=f"{STORAGE_DIR}/{SCHEMA_FILE}",
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
        # Beside it, so that an editor finds it without a network.
        write_atomic(storage / SCHEMA_FILE, BUILT_IN_SCHEMA.read_bytes())
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
