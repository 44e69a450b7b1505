"""Large blobs in the database itself, in chunks, if several gateways share a store.

A blob's chunks commit before the row that names it. Files on this device are a cache of them.
"""

import mmap
import time
from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, select, tuple_
from sqlalchemy.dialects.sqlite import insert

from swarm_hub.storage import schema

_T = schema.blob_chunks

CHUNK_BYTES: Final = 1024 * 1024
# A chunk's key: the hash of its blob, and its number.
Place = tuple[str, int]
START: Final[Place] = ("", 0)
# How many are looked at in one read; their bytes are not read.
_LOOKED_AT: Final = 1000
# How many go in one transaction, so that none holds the writer for long.
_DELETED_AT_ONCE: Final = 16
_INSERT: Final = insert(_T).on_conflict_do_nothing()


def put(connection: Connection, sha: str, data: bytes | mmap.mmap) -> None:
    """Store a blob in chunks, unless it is there already."""
    known = select(func.coalesce(func.sum(func.length(_T.c.body)), 0)).where(_T.c.sha == sha)
    if connection.execute(known).scalar_one() == len(data):
        return
    now = time.time()
    for n, start in enumerate(range(0, len(data), CHUNK_BYTES)):
        body = data[start : start + CHUNK_BYTES]
        connection.execute(_INSERT, {"sha": sha, "n": n, "put_at": now, "body": body})


def get(connection: Connection, sha: str, n: int) -> bytes | None:
    """Return one chunk, counted from 0, unverified; None after the last."""
    body = connection.execute(select(_T.c.body).where(_T.c.sha == sha, _T.c.n == n)).scalar()
    return None if body is None else bytes(body)


def remove(connection: Connection, shas: Sequence[str]) -> bool:
    """Delete some chunks of blobs that no row names; returns whether there may be more."""
    return _delete(connection, _T.c.sha.in_(shas))


def orphans(
    connection: Connection, after: Place, put_before: float
) -> tuple[set[str], Place | None]:
    """Look at the next chunks after a place; returns whose chunks no row names, and how far it got.

    Those count that were put before `put_before`. After the last chunk the place is None.
    """
    named = exists().where(schema.blobs.c.sha == _T.c.sha).label("named")
    page = (
        select(_T.c.sha, _T.c.n, _T.c.put_at, named)
        .where(tuple_(_T.c.sha, _T.c.n) > tuple_(*after))
        .order_by(_T.c.sha, _T.c.n)
        .limit(_LOOKED_AT)
    )
    rows = connection.execute(page).all()
    found = {row.sha for row in rows if not row.named and row.put_at < put_before}
    return found, (rows[-1].sha, rows[-1].n) if len(rows) == _LOOKED_AT else None


def sweep(connection: Connection, shas: Collection[str], put_before: float) -> bool:
    """Delete some chunks of `orphans`; returns whether there may be more."""
    return _delete(connection, and_(_T.c.sha.in_(shas), _T.c.put_at < put_before))


def _delete(connection: Connection, which: ColumnElement[bool]) -> bool:
    named = exists().where(schema.blobs.c.sha == _T.c.sha)
    found = select(_T.c.sha, _T.c.n).where(which, ~named).limit(_DELETED_AT_ONCE)
    gone = connection.execute(delete(_T).where(tuple_(_T.c.sha, _T.c.n).in_(found)))
    return gone.rowcount == _DELETED_AT_ONCE
