"""`join`: from an invitation link to a configured worker."""

import platform
import stat
import time
from pathlib import Path
from typing import Any

import click

from swarm_hub.cli.directory import configuration, make_directory, quoted, unwritable
from swarm_hub.cli.extend import CannotExtendError, extended, missing
from swarm_hub.cli.options import config_option, note
from swarm_hub.components.mesh import JoinLink, parse_join_link, peer_id_from_seed
from swarm_hub.config import read_configuration
from swarm_hub.const import (
    CONFIG_FILE,
    IDENTITY_KEY_FILE,
    JOIN_TOKENS_FILE,
    STORAGE_DIR,
)
from swarm_hub.exceptions import HubError, JoinLinkError
from swarm_hub.helpers.join_tokens import JoinToken, keep_join_token
from swarm_hub.util.clock import isoformat
from swarm_hub.util.files import load_or_create_key, write_atomic


@click.command()
@config_option
@click.argument("link")
@click.option("--name", default=None, help="What this device is called, if it has no name yet.")
def join(config_dir: Path, link: str, name: str | None) -> None:
    """Make this device a worker of the gateway that LINK (from swarm-hub invite) leads to.

    No hub may be running on the configuration directory. What is configured there stays.
    """
    # The runner imports all that a hub needs, but a broken link should be reported at once.
    invitation = parse_join_link(link)
    if invitation.expires_at <= time.time():
        raise JoinLinkError(
            f"the invitation expired at {isoformat(invitation.expires_at)} (the time here is "
            f"{isoformat(time.time())}); make another one on the gateway: swarm-hub invite"
        )
    from swarm_hub.runner import locked
    from swarm_hub.storage.backup.unfinished import finish_restore

    try:
        config_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(config_dir, error) from error
    with locked(config_dir):
        finish_restore(config_dir)
        _join(config_dir, invitation, name)
    note(
        f"{invitation.name} ({invitation.peer_id}) admits this device when its hub first runs, and "
        "says then if somebody else has used the invitation"
    )
    note(f"Next: swarm-hub run -c {config_dir}")


def _join(config_dir: Path, link: JoinLink, name: str | None) -> None:
    path = config_dir / CONFIG_FILE
    storage = config_dir / STORAGE_DIR
    seed = load_or_create_key(storage / IDENTITY_KEY_FILE, "mesh identity")
    if peer_id_from_seed(seed) == link.peer_id:
        raise HubError(
            f"{config_dir} is the gateway that made this invitation; use it on another device"
        )
    is_new = not path.exists()
    if not is_new:
        _check_fits(config_dir)
    # The token first: a configuration without it would only be refused.
    token = JoinToken(link.peer_id, link.token.hex(), link.expires_at)
    try:
        keep_join_token(storage / JOIN_TOKENS_FILE, token, time.time())
        if is_new:
            text = configuration(
                "join", "worker", name or platform.node() or "hub",
                # Nobody has to dial a worker, and the gateway may have the usual port.
                mesh_port=0, bootnodes=link.addresses, trust=(link.public_key.hex(),),
            )  # fmt: skip
            make_directory(config_dir, text)
        else:
            _extend(path, link)
    except OSError as error:
        raise unwritable(config_dir, error) from error


def _check_fits(config_dir: Path) -> None:
    """Refuse a configuration that added lines can't turn into a worker."""
    found = read_configuration(config_dir, "hub")
    if found.storage.shared:
        raise HubError(
            f"{config_dir}: this hub shares its store (storage: url), and a worker needs one of "
            "its own; join with another directory: -c DIR"
        )
    mesh = found.sections.get("mesh")
    if isinstance(mesh, dict) and mesh.get("transport") == "loopback":
        raise HubError(
            f"{config_dir / CONFIG_FILE}: mesh: transport: loopback has no network; remove it, "
            "then join again"
        )


def _extend(path: Path, link: JoinLink) -> None:
    content: dict[str, Any] = read_configuration(path.parent, "hub").sections
    trust, addresses = [link.public_key.hex()], list(link.addresses)
    additions = {}
    try:
        if new := missing(content, "signer", "trust", trust):
            additions["signer"] = {"trust": new}
        if new := missing(content, "mesh", "bootnodes", addresses):
            additions["mesh"] = {"bootnodes": new}
        if "worker" not in content:
            additions["worker"] = {}
        if not additions:
            return
        text = extended(path, additions)
    except (CannotExtendError, AttributeError, TypeError) as error:
        raise HubError(
            f"{path} is left as it is ({error}); the invitation is kept. Add these lines "
            f"yourself, to the lists that are there already, then run the hub:\n{_by_hand(link)}"
        ) from None
    real = path.resolve()
    write_atomic(real, text.encode(), mode=stat.S_IMODE(real.stat().st_mode))
    for section, lists in additions.items():
        for key, values in lists.items():
            note(f"Added to {section}: {key}: {', '.join(values)}")
        if not lists:
            note(f"Added {section}:")


def _by_hand(link: JoinLink) -> str:
    bootnodes = "".join(f"    - {quoted(each)}\n" for each in link.addresses)
    return (
        f"signer:\n  trust:\n    - {quoted(link.public_key.hex())}\n"
        f"mesh:\n  bootnodes:\n{bootnodes}worker:"
    )
