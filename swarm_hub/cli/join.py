"""`join`: from an invitation link to a configured worker."""

import asyncio
import contextlib
import functools
import platform
import secrets
import stat
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from swarm_hub.cli.directory import configuration, make_directory, quoted, unwritable
from swarm_hub.cli.extend import CannotExtendError, extended, missing
from swarm_hub.cli.options import config_option, json_option, note, print_json
from swarm_hub.components.mesh import (
    JoinLink,
    LinkedGateway,
    NoAnswerError,
    parse_join_link,
    peer_id_from_seed,
    visit,
)
from swarm_hub.config import read_configuration
from swarm_hub.const import (
    CONFIG_FILE,
    IDENTITY_KEY_FILE,
    JOIN_TOKENS_FILE,
    LOCK_FILE,
    SIGNER_KEY_FILE,
    STORAGE_DIR,
)
from swarm_hub.exceptions import (
    HubError,
    JoinLinkError,
    NotAdmittedError,
    UnreachablePeerError,
)
from swarm_hub.helpers.join_tokens import JoinToken, keep_join_token
from swarm_hub.models.peer_id import certify
from swarm_hub.util.clock import isoformat
from swarm_hub.util.ed25519 import SigningKey
from swarm_hub.util.files import load_or_create_key, write_atomic

# A gateway looks into its store before it decides.
_DECIDED_WITHIN_S: Final = 30.0


@click.command()
@config_option
@click.argument("link")
@click.option("--name", default=None, help="What this device is called, if it has no name yet.")
@click.option("--offline", is_flag=True, help="Don't ask the gateway now; its hub asks later.")
@json_option
def join(config_dir: Path, link: str, name: str | None, offline: bool, as_json: bool) -> None:
    """Make this device a worker of the gateway that LINK (from swarm-hub invite) leads to.

    The gateway is asked to admit it; if it does not, or can't be reached, nothing is configured. No
    hub may be running on the configuration directory. What is configured there stays.
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

    found = {each for each in _made_by_asking(config_dir) if each.exists()}
    try:
        config_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(config_dir, error) from error
    with locked(config_dir):
        finish_restore(config_dir)
        try:
            device = _device(config_dir, invitation, name)
            if not offline:
                _ask(config_dir, invitation, device)
        except NoAnswerError:
            raise  # Perhaps it has admitted this identity, which must stay then.
        except (NotAdmittedError, UnreachablePeerError):
            _remove(each for each in _made_by_asking(config_dir) if each not in found)
            raise
        _configure(config_dir, invitation, device)
    if as_json:
        print_json(
            {
                "gateway": invitation.peer_id,
                "gateway_name": invitation.name,
                "node_id": device.peer_id,
                "name": device.name,
                "admitted": not offline,
                "config": str(config_dir),
            }
        )
        return
    gateway = f"{invitation.name} ({invitation.peer_id})"
    if offline:
        note(
            f"{gateway} was not asked: it admits this device when its hub first runs, and says "
            "then if somebody else has used the invitation"
        )
    else:
        note(f"Joined {gateway}, as {device.name}")
    note(f"Next: swarm-hub run -c {config_dir}")


@dataclass(frozen=True, slots=True)
class _Device:
    """This device as gateways will know it."""

    name: str
    seed: bytes
    peer_id: str


def _made_by_asking(config_dir: Path) -> list[Path]:
    """Return what is there before the gateway has admitted this device, in order."""
    storage = config_dir / STORAGE_DIR
    keys = (storage / each for each in (IDENTITY_KEY_FILE, SIGNER_KEY_FILE))
    return [config_dir, storage, config_dir / LOCK_FILE, *keys]


def _remove(paths: Iterable[Path]) -> None:
    for each in reversed(list(paths)):
        with contextlib.suppress(OSError):
            if each.is_dir():
                each.rmdir()
            else:
                each.unlink()


def _device(config_dir: Path, link: JoinLink, name: str | None) -> _Device:
    seed = load_or_create_key(config_dir / STORAGE_DIR / IDENTITY_KEY_FILE, "mesh identity")
    if (peer_id := peer_id_from_seed(seed)) == link.peer_id:
        raise HubError(
            f"{config_dir} is the gateway that made this invitation; use it on another device"
        )
    name = name or platform.node() or "hub"
    if (config_dir / CONFIG_FILE).exists():
        name = _name_if_it_fits(config_dir, name)
    return _Device(name, seed, peer_id)


def _ask(config_dir: Path, link: JoinLink, device: _Device) -> None:
    """Have the gateway admit this device, now; raises HubError that says why it does not."""
    # What a hub needs to greet, which a wrong link should not have to wait for.
    from swarm_hub.components.signer import signed_hello
    from swarm_hub.helpers.signing_keys import KeyFiles

    now = time.time()

    async def ask(asked: LinkedGateway) -> None:
        hello = signed_hello(
            KeyFiles(config_dir / STORAGE_DIR).own(now),
            {
                "iss": device.peer_id,
                "aud": asked.peer_id,
                "time": now,
                "name": device.name,
                # No job fits into a byte: nothing is given to a device that is about to leave.
                "capabilities": {"worker": {"slots": 1, "memory_bytes": 1}},
                "boot_id": secrets.token_hex(16),
                "db_id": secrets.token_hex(16),
            },
            functools.partial(certify, SigningKey(device.seed)),
            link.token,
            now,
        )
        await visit(
            device.seed, asked.addresses, hello,
            decided_within_s=_DECIDED_WITHIN_S, goodbye="it has joined; now its hub may come",
        )  # fmt: skip

    gateway = f"{link.name} ({link.peer_id})"
    try:
        asyncio.run(_first_reached(link.gateways, ask))
    except NotAdmittedError as error:
        raise NotAdmittedError(f"{gateway} does not admit this device: {error}") from None
    except NoAnswerError as error:
        raise NoAnswerError(
            f"{gateway} did not say whether it admits this device: {error}; join again with the "
            "same link, it counts for this device"
        ) from None
    except UnreachablePeerError as error:
        raise UnreachablePeerError(
            f"{gateway} can't be reached, so nothing was changed here:\n{error}\nDoes its hub run, "
            "is its mesh port open, is this device on a network that leads there? Without asking: "
            "--offline"
        ) from None


async def _first_reached(
    gateways: Sequence[LinkedGateway], ask: Callable[[LinkedGateway], Awaitable[None]]
) -> None:
    """Ask the gateways in turn until one is reached; the first one's failure is told."""
    failures: list[UnreachablePeerError] = []
    for each in gateways:
        try:
            await ask(each)
        except NoAnswerError:
            raise
        except UnreachablePeerError as error:
            failures.append(error)
        else:
            return
    raise failures[0]


def _configure(config_dir: Path, link: JoinLink, device: _Device) -> None:
    path = config_dir / CONFIG_FILE
    # The token first: a configuration without it would only be refused.
    kept = config_dir / STORAGE_DIR / JOIN_TOKENS_FILE
    try:
        for each in link.gateways:
            token = JoinToken(each.peer_id, link.token.hex(), link.expires_at)
            keep_join_token(kept, token, time.time())
        if path.exists():
            _extend(path, link)
            return
        text = configuration(
            "join", "worker", device.name,
            # Nobody has to dial a worker, and the gateway may have the usual port.
            mesh_port=0, bootnodes=link.all_addresses, trust=link.all_keys,
        )  # fmt: skip
        make_directory(config_dir, text)
    except OSError as error:
        raise unwritable(config_dir, error) from error


def _name_if_it_fits(config_dir: Path, name: str) -> str:
    """Return the hub's name; refuses a configuration that added lines can't turn into a worker."""
    found = read_configuration(config_dir, name)
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
    return found.hub.name


def _extend(path: Path, link: JoinLink) -> None:
    content: dict[str, Any] = read_configuration(path.parent, "hub").sections
    trust, addresses = list(link.all_keys), list(link.all_addresses)
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
    bootnodes = "".join(f"    - {quoted(each)}\n" for each in link.all_addresses)
    keys = "".join(f"    - {quoted(each)}\n" for each in link.all_keys)
    return f"signer:\n  trust:\n{keys}mesh:\n  bootnodes:\n{bootnodes}worker:"
