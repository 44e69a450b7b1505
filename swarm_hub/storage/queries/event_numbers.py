"""Numbering the events of a store that gateways share: after the commit, one gateway at a time.

A transaction leaves its events in `event_queue`, without a number, so that no commit waits for
another one. Whoever gets the counter's row gives numbers to all that is committed, in the order in
which it was written. The next one sees only then that the row is free when what the one before it
numbered can be seen: no number is visible before a lower one.

It is one statement in a transaction of its own. A gateway that freezes or dies does not hold the
row, since the server needs nothing more of it. PostgreSQL only; on SQLite the writer numbers. The
driver is given these statements itself: through SQLAlchemy they take several times the CPU.
"""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, text

# How many are numbered in one statement.
_AT_ONCE: Final = 2000
# A store that is new lacks the row, and so does one of an earlier version.
_MAKE_COUNTER: Final = text(
    "INSERT INTO meta (key, value) VALUES ('event_numbers', '0') ON CONFLICT DO NOTHING"
)
# Gateways of schema 0013 and before, beside which this one may run while a fleet is upgraded, hold
# this lock from the number to the commit.
_FORMER_LOCK: Final = 0x5A4B0002
# The row is read as it is when its lock is had. All else is as it was when the statement began:
# the newest event may be an older one, and what is queued may be gone, which DELETE skips.
_NUMBER: Final = """
WITH counter AS MATERIALIZED (
    SELECT value::bigint AS seq FROM meta
    WHERE key = 'event_numbers' AND pg_try_advisory_xact_lock(%s) FOR UPDATE SKIP LOCKED
), waiting AS MATERIALIZED (
    SELECT id FROM event_queue WHERE EXISTS (SELECT FROM counter) ORDER BY id LIMIT %s
), taken AS (
    DELETE FROM event_queue WHERE id IN (SELECT id FROM waiting)
    RETURNING id, event_type, job_id, time_fired, data
), numbered AS (
    INSERT INTO events (seq, event_type, job_id, time_fired, data)
    SELECT greatest(
            (SELECT seq FROM counter), (SELECT coalesce(max(seq), 0) FROM events)
        ) + row_number() OVER (ORDER BY id), event_type, job_id, time_fired, data
    FROM taken RETURNING seq
), noted AS (
    INSERT INTO meta (key, value)
    SELECT 'event_numbers', max(seq)::text FROM numbered HAVING count(*) > 0
    ON CONFLICT (key) DO UPDATE SET value = excluded.value
)
SELECT EXISTS (SELECT FROM counter) AS had_turn, (SELECT count(*) FROM waiting) AS n_found,
    min(seq) AS first_seq, max(seq) AS last_seq FROM numbered
"""
# A hint need not wait for the disk.
_NOTIFY: Final = "SELECT pg_notify(%s, %s), set_config('synchronous_commit', 'off', true)"


@dataclass(frozen=True, slots=True)
class Numbered:
    """What one turn of numbering did: the range of numbers, None where there was nothing to do.

    `complete` tells that all that was committed before it has its number.
    """

    seqs: tuple[int, int] | None
    complete: bool


def make_counter(connection: Connection) -> None:
    """Make the row whose lock is the right to number; call it in a write."""
    connection.execute(_MAKE_COUNTER)


def number(connection: Connection) -> Numbered:
    """Number what is committed, unless somebody else does; call it in a transaction of its own."""
    found = _driver(connection).execute(_NUMBER, [_FORMER_LOCK, _AT_ONCE]).fetchone()
    had_turn, n_found, first_seq, last_seq = found
    seqs = None if last_seq is None else (int(first_seq), int(last_seq))
    return Numbered(seqs, had_turn and n_found < _AT_ONCE)


def notify(connection: Connection, channel: str, payload: str) -> None:
    """Tell the other gateways of something; call it in a transaction of its own."""
    _driver(connection).execute(_NOTIFY, [channel, payload])


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection
