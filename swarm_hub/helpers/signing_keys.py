"""The files of a hub's signing key, which commands write and a running hub reads again."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from swarm_hub.const import REVOKED_FILE, ROTATIONS_FILE, SIGNER_KEY_FILE
from swarm_hub.exceptions import HubError
from swarm_hub.models.envelope import key_id
from swarm_hub.models.rotation import (
    CHAIN_MAX,
    Revocation,
    Rotation,
    accept,
    chain_to,
    make_rotation,
    read_kept,
    read_rotation,
)
from swarm_hub.util.ed25519 import SigningKey
from swarm_hub.util.files import (
    exclusive,
    file_stamp,
    load_or_create_key,
    refuse_key,
    write_atomic,
)

# How many keys one hub may revoke; others have to keep them forever.
REVOKED_MAX: Final = 1024
REASON_MAX: Final = 64
_LOCK_FILE: Final = "signer.lock"
_WHAT: Final = "signer's key"


@dataclass(frozen=True, slots=True)
class OwnKey:
    """The key a hub signs with, and the rotations still in their overlap that led to it."""

    key: SigningKey
    rotations: tuple[Rotation, ...]

    @property
    def public_key(self) -> bytes:
        """Its public half."""
        return self.key.public_key

    @property
    def kid(self) -> str:
        """Its id."""
        return key_id(self.public_key)


class KeyFiles:
    """The signing key, its rotations and the revoked keys in `.storage`."""

    def __init__(self, storage: Path) -> None:
        self._storage = storage
        self._key = storage / SIGNER_KEY_FILE
        self._rotations = storage / ROTATIONS_FILE
        self._revoked = storage / REVOKED_FILE

    def stamp(self) -> tuple[object, ...]:
        """Return a value that changes when a command has written one of the files."""
        return tuple(file_stamp(path) for path in (self._key, self._rotations, self._revoked))

    def refuse(self) -> None:
        """Raise HubError if one of the files can't be used; one that is not there can be made."""
        refuse_key(self._key, _WHAT)
        for path in (self._rotations, self._revoked):
            _read(path)

    def own(self, now: float) -> OwnKey:
        """Return the key, created at first use, and the rotations that are still valid."""
        key = SigningKey(load_or_create_key(self._key, _WHAT))
        known = [_kept(*map(bytes.fromhex, parts), key=key) for parts in _read(self._rotations)]
        # A rotation that a crash cut short leads to a key that was never stored; of those that
        # version 2 made, the earlier ones can't be signed by their new keys any more.
        chain = chain_to(key.public_key, [each for each in known if each.accepted])
        return OwnKey(key, tuple(each for each in chain if each.overlaps(now)))

    def rotate(self, peer_id: str, overlap_s: int, now: float) -> Rotation:
        """Make a new key, signed by the old one, and replace the old one by it."""
        with exclusive(self._storage / _LOCK_FILE):
            before = self.own(now)
            if len(before.rotations) >= CHAIN_MAX:
                raise HubError(
                    f"{CHAIN_MAX} rotations of this key are still in their overlap; wait until "
                    f"the first one ends, see: swarm-hub key show"
                )
            seed = os.urandom(32)
            made = make_rotation(
                before.key, SigningKey(seed),
                peer_id=peer_id, at=int(now), overlap_s=overlap_s,
            )  # fmt: skip
            # The rotation comes first: a key that no rotation leads to would be refused everywhere.
            _write(
                self._rotations,
                [[part.hex() for part in each.to_wire()] for each in (*before.rotations, made)],
            )
            write_atomic(self._key, seed, mode=0o600)
        return made

    def revoked(self) -> list[Revocation]:
        """Return the keys that were revoked here."""
        return [Revocation(**plain) for plain in _read(self._revoked)]

    def revoke(self, kid: str, reason: str, now: float) -> bool:
        """Revoke a key; returns whether it was not revoked here before."""
        with exclusive(self._storage / _LOCK_FILE):
            known = self.revoked()
            if kid in {each.kid for each in known}:
                return False
            if len(known) >= REVOKED_MAX:
                raise HubError(f"{self._revoked}: has {REVOKED_MAX} keys already; no more fit")
            made = Revocation(kid, now, reason[:REASON_MAX])
            plain = [
                {"kid": each.kid, "revoked_at": each.revoked_at, "reason": each.reason}
                for each in (*known, made)
            ]
            _write(self._revoked, plain)
        return True


def _kept(
    statement: bytes, signature: bytes, accepted: bytes = b"", *, key: SigningKey
) -> Rotation:
    if accepted:
        return read_rotation(statement, signature, accepted)
    made = read_kept(statement, signature)
    return accept(made, key) if made.new == key.public_key else made


def _read(path: Path) -> Iterable[Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise HubError(f"{path}: can't be read ({error}); restore it from a backup") from error
    return content if isinstance(content, list) else []


def _write(path: Path, content: list[Any]) -> None:
    write_atomic(path, json.dumps(content, indent=1).encode(), mode=0o600)
