"""Large blobs in the database itself, in chunks, where several gateways share a store.

A blob's chunks commit before the row that names it. Files on this device are a cache of them.
"""

import time
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from swarm_hub.storage import schema

_T = schema.blob_chunks

CHUNK_BYTES: Final = 1024 * 1024
_INSERT: Final = insert(_T).on_conflict_do_nothing()


def put(connection: Connection, sha: str, data: bytes) -> None:
    """Store a blob in chunks, unless it is there already."""
    known = select(func.coalesce(func.sum(func.length(_T.c.body)), 0)).where(_T.c.sha == sha)
    if connection.execute(known).scalar_one() == len(data):
        return
    now = time.time()
    view = memoryview(data)
    for n, start in enumerate(range(0, len(data), CHUNK_BYTES)):
        body = bytes(view[start : start + CHUNK_BYTES])
        connection.execute(_INSERT, {"sha": sha, "n": n, "put_at": now, "body": body})


def get(connection: Connection, sha: str) -> bytes | None:
    """Return a blob's bytes, whatever they are; None where there are none."""
    rows = connection.execute(select(_T.c.body).where(_T.c.sha == sha).order_by(_T.c.n)).scalars()
    chunks = [bytes(body) for body in rows]
    return b"".join(chunks) if chunks else None


def remove(connection: Connection, shas: Sequence[str]) -> None:
    """Delete the chunks of blobs, unless a row names one again."""
    named = select(schema.blobs.c.sha)
    connection.execute(delete(_T).where(_T.c.sha.in_(shas), _T.c.sha.not_in(named)))


def sweep(connection: Connection, put_before: float) -> None:
    """Delete chunks that no row names and that were put before that time."""
    named = select(schema.blobs.c.sha)
    connection.execute(delete(_T).where(_T.c.put_at < put_before, _T.c.sha.not_in(named)))
