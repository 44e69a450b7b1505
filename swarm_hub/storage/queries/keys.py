"""Signing keys that were revoked, and those that were replaced."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from swarm_hub.models.rotation import Revocation, Rotation
from swarm_hub.storage import schema
from swarm_hub.storage.write import Write

_REVOKED = schema.revoked_keys
_ROTATIONS = schema.key_rotations
# The first entry stays: a revocation is never taken back, and a key has one successor.
_REVOKE: Final = insert(_REVOKED).on_conflict_do_nothing()
_ROTATE: Final = insert(_ROTATIONS).on_conflict_do_nothing()


def revoke(revocations: Sequence[Revocation]) -> Write:
    """Return the rows of revoked keys."""
    return Write(
        _REVOKE,
        [
            {
                "kid": each.kid,
                "revoked_at": each.revoked_at,
                "reason": each.reason,
                "issuer": each.issuer,
            }
            for each in revocations
        ],
    )


def revoked(connection: Connection) -> list[Revocation]:
    """Return every revoked key."""
    return [Revocation(**row._mapping) for row in connection.execute(select(_REVOKED))]


def rotate(rotations: Sequence[Rotation]) -> Write:
    """Return the rows of rotations that were followed."""
    return Write(
        _ROTATE,
        [
            {"kid": each.old_kid, "statement": each.statement, "signature": each.signature}
            for each in rotations
        ],
    )


def rotations(connection: Connection) -> list[tuple[bytes, bytes]]:
    """Return (statement, signature) of every rotation that was followed."""
    rows = connection.execute(select(_ROTATIONS.c.statement, _ROTATIONS.c.signature))
    return [(row.statement, row.signature) for row in rows]
