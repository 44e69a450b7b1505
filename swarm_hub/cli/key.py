"""Commands on signing keys; they work beside a running hub, which is told to read them again."""

import contextlib
import re
import time
from pathlib import Path
from typing import Any, Final

import click

from swarm_hub.cli.options import config_option, echo, json_option, note, print_json, working_dir
from swarm_hub.const import IDENTITY_KEY_FILE, STORAGE_DIR
from swarm_hub.control.client import ask
from swarm_hub.exceptions import HubError
from swarm_hub.helpers.signing_keys import REASON_MAX, KeyFiles
from swarm_hub.models.envelope import key_id
from swarm_hub.models.rotation import OVERLAP_MAX_S
from swarm_hub.util.clock import isoformat
from swarm_hub.util.files import load_or_create_key
from swarm_hub.util.units import parse_duration

_KID: Final = re.compile(r"[0-9a-f]{16}(?:[0-9a-f]{16})?", re.ASCII)
_PUBLIC_KEY: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def _overlap(_ctx: object, _option: object, text: str) -> int:
    try:
        overlap_s = int(parse_duration(text))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if overlap_s > OVERLAP_MAX_S:
        raise click.BadParameter(f"at most {OVERLAP_MAX_S // 86_400} days")
    return overlap_s


def _kid(_ctx: object, _argument: object, text: str) -> str:
    text = text.lower()
    if _PUBLIC_KEY.fullmatch(text):
        return key_id(bytes.fromhex(text))
    if not _KID.fullmatch(text):
        raise click.BadParameter(
            f"{text!r}: expected a kid (32 hex digits) or a public key (64), as `swarm-hub key "
            "show` prints them on that hub or `swarm-hub node list --json` on the gateway"
        )
    return text


@click.group()
def key() -> None:
    """Show, rotate and revoke signing keys."""


@key.command()
@config_option
@json_option
def show(config_dir: Path, as_json: bool) -> None:
    """Show the peer id and the public key that workers name in `signer: trust`."""
    files, peer_id = _files(config_dir)
    own = files.own(time.time())
    shown: dict[str, Any] = {
        "peer_id": peer_id,
        "public_key": own.public_key.hex(),
        "kid": own.kid,
    }
    rotated = [{"kid": each.old_kid, "until": isoformat(each.until)} for each in own.rotations]
    revoked = [
        {"kid": each.kid, "revoked_at": isoformat(each.revoked_at), "reason": each.reason}
        for each in files.revoked()
    ]
    if as_json:
        print_json({**shown, "overlapping": rotated, "revoked": revoked})
        return
    for name, value in shown.items():
        echo(f"{name:11} {value}")
    for each in rotated:
        echo(f"{'overlapping':11} {each['kid']} until {each['until']}")
    for each in revoked:
        echo(f"{'revoked':11} {each['kid']} {each['revoked_at']} {each['reason']}".rstrip())


@key.command()
@config_option
@json_option
@click.option(
    "--overlap",
    callback=_overlap,
    default="7d",
    show_default=True,
    help="How long the old key stays valid too, such as 12h; 0 if it was stolen.",
)
def rotate(config_dir: Path, as_json: bool, overlap: int) -> None:
    """Replace the signing key with a new one that the old one has signed.

    Workers that are connected, or connect within the overlap, follow by themselves. A running
    hub signs with the new key at once.
    """
    files, peer_id = _files(config_dir)
    made = files.rotate(peer_id, overlap, time.time())
    _tell(config_dir)
    if as_json:
        print_json(
            {
                "kid": made.new_kid,
                "public_key": made.new.hex(),
                "old_kid": made.old_kid,
                "until": isoformat(made.until),
            }
        )
        return
    note(f"Key {made.new_kid} replaces {made.old_kid}")
    note(f"Workers that connect until {isoformat(made.until)} follow by themselves; others need")
    note("this key in signer: trust")
    note(f"If the old one was stolen, now run: swarm-hub key revoke {made.old_kid}")
    echo(made.new.hex())


@key.command()
@config_option
@json_option
@click.argument("kid", callback=_kid)
@click.option("--reason", default="", help="Why; workers are told.")
def revoke(config_dir: Path, as_json: bool, kid: str, reason: str) -> None:
    """Make a signing key invalid, here and on every worker of this gateway.

    KID is the key's id or the key itself. This can't be undone.
    """
    files, _ = _files(config_dir)
    if files.own(time.time()).kid.startswith(kid):
        raise HubError(
            f"{kid} is what this hub signs with, even the revocation itself; first make another: "
            f"swarm-hub key rotate --overlap 0, then: swarm-hub key revoke {kid}"
        )
    if not reason.isprintable() or len(reason) > REASON_MAX:
        raise click.BadParameter(f"--reason: at most {REASON_MAX} printable characters")
    is_new = files.revoke(kid, reason, time.time())
    if is_new:
        _tell(config_dir)
    if as_json:
        print_json({"kid": kid, "revoked": True})
        return
    if not is_new:
        note(f"{kid} is already revoked")
        return
    note(f"{kid} is revoked; a running hub and its connected workers refuse it within seconds,")
    note("others when they next connect to this gateway")


def _tell(config_dir: Path) -> None:
    """Have a running hub read the keys now; one that can't be told looks by itself."""
    with contextlib.suppress(HubError):
        ask(working_dir(config_dir), "reload_keys")


def _files(config_dir: Path) -> tuple[KeyFiles, str]:
    from swarm_hub.components.mesh import peer_id_from_seed

    storage = working_dir(config_dir) / STORAGE_DIR
    storage.mkdir(mode=0o700, exist_ok=True)
    identity = load_or_create_key(storage / IDENTITY_KEY_FILE, "mesh identity")
    return KeyFiles(storage), peer_id_from_seed(identity)
