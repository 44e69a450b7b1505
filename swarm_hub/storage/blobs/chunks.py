"""Large blobs in the database itself, in chunks, if several gateways share a store.

A blob's chunks commit before the row that names it. Files on this device are a cache of them.
"""

import mmap
import time
from collections.abc import Sequence
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, select, tuple_
from sqlalchemy.dialects.sqlite import insert

from swarm_hub.storage import schema

_T = schema.blob_chunks

CHUNK_BYTES: Final = 1024 * 1024
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


def sweep(connection: Connection, prefix: str, put_before: float) -> bool:
    """Delete chunks that no row names, put before `put_before`, whose hash begins with `prefix`.

    Deletes only some at a time; returns whether there may be more.
    """
    # "g" comes after every hex digit.
    within = and_(_T.c.sha >= prefix, _T.c.sha < f"{prefix}g")
    return _delete(connection, and_(within, _T.c.put_at < put_before))


def _delete(connection: Connection, which: ColumnElement[bool]) -> bool:
    named = exists().where(schema.blobs.c.sha == _T.c.sha)
    found = select(_T.c.sha, _T.c.n).where(which, ~named).limit(_DELETED_AT_ONCE)
    gone = connection.execute(delete(_T).where(tuple_(_T.c.sha, _T.c.n).in_(found)))
    return gone.rowcount == _DELETED_AT_ONCE
