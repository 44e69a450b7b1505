"""The replay cache: the ids of envelopes that took effect."""

from typing import Final

from sqlalchemy import Connection, bindparam, delete, select
from sqlalchemy.dialects.postgresql import insert

from swarm_hub.storage import schema
from swarm_hub.storage.write import Write

_T = schema.seen
_INSERT: Final = insert(_T).on_conflict_do_nothing()
_DELETE_EXPIRED: Final = delete(_T).where(_T.c.exp < bindparam("before"))


def remember(jti: bytes, iss: str, body_hash: bytes, exp: float) -> Write:
    """Return the row by which a later replay of envelope `jti` is recognised."""
    return Write(_INSERT, [{"jti": jti, "iss": iss, "body_hash": body_hash, "exp": exp}])


def forget_expired(before: float) -> Write:
    """Return the deletion of ids whose envelopes expired before that time anyway."""
    return Write(_DELETE_EXPIRED, [{"before": before}])


def unexpired(connection: Connection, now: float) -> dict[bytes, tuple[str, bytes, float]]:
    """Return jti → (issuer, body hash, expiry) of every envelope that could still be replayed."""
    rows = connection.execute(select(_T).where(_T.c.exp >= now))
    return {row.jti: (row.iss, row.body_hash, row.exp) for row in rows}
