"""Tokens that gateways share: a revision says whether any of them changed."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, select
from sqlalchemy.dialects.sqlite import insert
from ulid_transform import ulid_now

from swarm_hub.models.token import Token, outdated
from swarm_hub.storage import schema

_T = schema.tokens
_M = schema.meta
_REVISION: Final = "tokens"
_INSERT: Final = insert(_T).on_conflict_do_nothing()
_SET = insert(_M)
_CHANGED: Final = _SET.on_conflict_do_update(
    index_elements=["key"], set_={"value": _SET.excluded.value}
)
_READ_REVISION: Final = select(_M.c.value).where(_M.c.key == _REVISION)


def changed(connection: Connection, known: str | None) -> tuple[str, list[Token]] | None:
    """Return the revision and every token; None if the revision is the one that is known."""
    revision = connection.execute(_READ_REVISION).scalar_one_or_none() or ""
    if revision == known:
        return None
    return revision, all_of(connection)


def all_of(connection: Connection) -> list[Token]:
    """Return every token, oldest first."""
    rows = connection.execute(select(_T).order_by(_T.c.id))
    return [_token(row) for row in rows]


def add(connection: Connection, new: Sequence[Token]) -> None:
    """Add tokens that are not there; call it in a write."""
    for token in new:
        connection.execute(_INSERT, _row(token))
    _note_change(connection)


def create(connection: Connection, token: Token, now: float) -> None:
    """Add a token, and remove sessions that are outdated; call it in a write."""
    sessions = connection.execute(select(_T).where(_T.c.session == 1))
    gone = outdated([_token(row) for row in sessions], now, token)
    if gone:
        connection.execute(delete(_T).where(_T.c.id.in_(sorted(gone))))
    add(connection, [token])


def revoke(connection: Connection, token_id: str) -> bool:
    """Remove a token; returns whether there was one with that id. Call it in a write."""
    removed = connection.execute(delete(_T).where(_T.c.id == token_id)).rowcount
    if removed:
        _note_change(connection)
    return bool(removed)


def _note_change(connection: Connection) -> None:
    connection.execute(_CHANGED, {"key": _REVISION, "value": ulid_now()})


def _row(token: Token) -> dict[str, object]:
    plain = {name: getattr(token, name) for name in _T.c.keys()}  # noqa: SIM118 - of columns
    return {**plain, "session": int(token.session)}


def _token(row: Row[Any]) -> Token:
    return Token(**{**row._mapping, "session": bool(row.session)})
