"""What a store promised by its acknowledgements, and whether a database file keeps it.

Takes the words of tests/helpers/transitions.py. Looks with sqlite3 itself, read-only, so that
the recovery that is tested stays for the next `Store.open`.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from swarm_hub.util.hashing import sha256_hex
from tests.helpers.transitions import ITEMS_A_SHARD, N_SHARDS

# An announcement allows both the state before and the one after it; the rest is acknowledged.
ANNOUNCED: Final = ("finishing", "delivering")
_PLACES: Final = {
    "accepted": {"inbox"},
    "finishing": {"inbox", "outbox"},
    "finished": {"outbox"},
    "delivering": {"outbox", "gone"},
    "delivered": {"gone"},
}


class Promises:
    """The words of all lives so far."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self._jobs: dict[str, str] = {}
        self._offered: set[str] = set()
        self._counted: dict[str, str] = {}
        self._completed: set[str] = set()
        self._at_worker: dict[str, str] = {}
        self._envelopes: dict[str, str] = {}
        self._finished: dict[str, str] = {}
        self._news: list[str] = []
        self._seen: Counter[bytes] = Counter()

    def hear(self, word: str, about: str, *more: str) -> None:
        """Take one word."""
        self.acknowledged += word not in ANNOUNCED
        self._news.append(about)
        if word == "submitted":
            (self._jobs[about],) = more
        elif word == "offered":
            self._offered.add(about)
        elif word == "counted":
            (self._counted[about],) = more
        elif word == "completed":
            self._completed.add(about)
        else:
            self._at_worker[about] = word
            if word == "accepted":
                (self._envelopes[about],) = more
            elif word == "finished":
                (self._finished[about],) = more

    def broken_by_news(self, database: Path) -> list[str]:
        """Return what the database does not keep of the words since the last call."""
        news, self._news = self._news, []
        return self._broken(database, news)

    def broken(self, database: Path) -> list[str]:
        """Return what the database does not keep of any word ever heard."""
        everything = {*self._jobs, *self._offered, *self._counted, *self._at_worker}
        return self._broken(database, everything)

    def _broken(self, database: Path, ids: Iterable[str]) -> list[str]:
        with closing(look(database)) as connection:
            try:
                # There is no index by them.
                self._seen = Counter(jti for (jti,) in connection.execute("SELECT jti FROM seen"))
                return [
                    broken
                    for about in dict.fromkeys(ids)
                    for broken in self._broken_about(connection, database.parent / "blobs", about)
                ]
            except sqlite3.DatabaseError as error:
                return [f"the database can't be read: {error}"]

    def _broken_about(
        self, connection: sqlite3.Connection, blobs: Path, about: str
    ) -> Iterator[str]:
        if about in self._jobs:
            sha = self._jobs[about]
            yield from _differs(connection, "SELECT dataset_sha FROM jobs WHERE id = ?", about, sha)
            yield from _no_blob(connection, blobs, sha)
        if about in self._offered:
            job_id, index, attempt = about.rsplit(".", 2)
            query = "SELECT count(*) FROM assignments WHERE job_id = ? AND idx = ? AND attempt = ?"
            if connection.execute(query, (job_id, index, attempt)).fetchone() != (1,):
                yield f"{about}: the offer is lost"
        if about in self._counted:
            sha = self._counted[about]
            job_id, index, _ = about.rsplit(".", 2)
            # By the job first, for which there is an index.
            query = f"SELECT sha FROM results WHERE job_id = '{job_id}' AND assignment_id = ?"
            yield from _differs(connection, query, about, sha)
            query = "SELECT accepted_assignment FROM shards WHERE job_id = ? AND idx = ?"
            if connection.execute(query, (job_id, index)).fetchone() != (about,):
                yield f"{about}: its shard does not count it"
            yield from _damaged_body(connection, blobs, "results", about)
            yield from _damaged_receipt(connection, about)
        if about in self._completed:
            yield from _differs(
                connection, "SELECT state FROM jobs WHERE id = ?", about, "completed"
            )
        if about in self._at_worker:
            yield from self._misplaced(connection, blobs, about)

    def _misplaced(self, connection: sqlite3.Connection, blobs: Path, about: str) -> Iterator[str]:
        """Yield where an accepted assignment is not in exactly the place it was told to be."""
        word = self._at_worker[about]
        found = [
            table
            for table in ("inbox", "outbox")
            if connection.execute(
                f"SELECT 1 FROM {table} WHERE assignment_id = ?", (about,)
            ).fetchone()
        ] or ["gone"]
        if len(found) != 1 or found[0] not in _PLACES[word]:
            yield f"{about}: {word}, but it is in {' and '.join(found)}"
        elif word == "finished":
            sha = self._finished[about]
            yield from _differs(
                connection, "SELECT sha FROM outbox WHERE assignment_id = ?", about, sha
            )
            yield from _damaged_body(connection, blobs, "outbox", about)
        jti = self._envelopes.get(about)
        if jti and self._seen[jti.encode()] != 1:
            yield f"{about}: its envelope could be replayed"


def look(database: Path) -> sqlite3.Connection:
    """Open a database without ever changing it; its WAL stays for the next owner."""
    return sqlite3.connect(f"file:{database}?mode=ro", uri=True, isolation_level=None)


def twice_or_torn(database: Path) -> list[str]:
    """Return what breaks the rules that hold after any transaction, with or without words."""
    rules = {
        "a shard counted twice": (
            "SELECT job_id, idx FROM results GROUP BY 1, 2 HAVING count(*) > 1"
        ),
        "a shard told done twice": (
            "SELECT job_id, json_extract(data, '$.index') FROM events "
            "WHERE event_type = 'shard_done' GROUP BY 1, 2 HAVING count(*) > 1"
        ),
        "a done shard without its result": (
            "SELECT job_id, idx FROM shards WHERE state = 'done' AND accepted_assignment NOT IN "
            "(SELECT assignment_id FROM results)"
        ),
        "a result whose shard is not done": (
            "SELECT r.assignment_id FROM results r LEFT JOIN shards s USING (job_id, idx) "
            "WHERE s.accepted_assignment IS NOT r.assignment_id OR s.state <> 'done'"
        ),
        "a result without its receipt": (
            "SELECT assignment_id FROM results WHERE receipt IS NOT NULL AND receipt NOT IN "
            "(SELECT sha FROM receipts WHERE job_id = results.job_id)"
        ),
        "a completed job without all its items": (
            "SELECT id FROM jobs WHERE state = 'completed' AND "
            "(SELECT sum(n_items) FROM results WHERE job_id = jobs.id) IS NOT "
            f"{N_SHARDS * ITEMS_A_SHARD}"
        ),
        "a completed job without its event": (
            "SELECT id FROM jobs WHERE state = 'completed' AND id NOT IN "
            "(SELECT job_id FROM events WHERE event_type = 'job_completed')"
        ),
        "a job without its dataset": (
            "SELECT id FROM jobs WHERE dataset_sha NOT IN (SELECT sha FROM blobs)"
        ),
        "an assignment in the inbox and the outbox": (
            "SELECT assignment_id FROM inbox JOIN outbox USING (assignment_id)"
        ),
        "a broken foreign key": "PRAGMA foreign_key_check",
        "damage": "SELECT quick_check FROM pragma_quick_check WHERE quick_check <> 'ok'",
    }
    with closing(look(database)) as connection:
        try:
            return [
                f"{what}: {row}"
                for what, query in rules.items()
                for row in connection.execute(query)
            ]
        except sqlite3.DatabaseError as error:
            return [f"the database can't be read: {error}"]


def damaged_blobs(database: Path) -> list[str]:
    """Return every blob row whose bytes are not there or are others."""
    with closing(look(database)) as connection:
        shas = [sha for (sha,) in connection.execute("SELECT sha FROM blobs")]
        return [
            broken
            for sha in shas
            for broken in _no_blob(connection, database.parent / "blobs", sha)
        ]


def _differs(connection: sqlite3.Connection, query: str, about: str, right: str) -> Iterator[str]:
    row = connection.execute(query, (about,)).fetchone()
    if row != (right,):
        yield f"{about}: expected {right}, found {row}"


def _no_blob(connection: sqlite3.Connection, blobs: Path, sha: str) -> Iterator[str]:
    row = connection.execute("SELECT body FROM blobs WHERE sha = ?", (sha,)).fetchone()
    if row is None:
        yield f"blob {sha}: no row"
    elif row[0] is not None:
        if sha256_hex(row[0]) != sha:
            yield f"blob {sha}: other bytes in the row"
    else:
        yield from _no_file(blobs, sha)


def _damaged_body(
    connection: sqlite3.Connection, blobs: Path, table: str, about: str
) -> Iterator[str]:
    job = f"job_id = '{about.partition('.')[0]}' AND " if table == "results" else ""
    query = f"SELECT sha, body FROM {table} WHERE {job}assignment_id = ?"
    for sha, body in connection.execute(query, (about,)):
        if body is None:
            yield from _no_blob(connection, blobs, sha)
        elif sha256_hex(body) != sha:
            yield f"{about}: other bytes in {table}"


def _damaged_receipt(connection: sqlite3.Connection, about: str) -> Iterator[str]:
    query = (
        "SELECT receipt, header, signature, e.body FROM results r LEFT JOIN receipts e "
        "ON e.job_id = r.job_id AND e.sha = r.receipt "
        "WHERE r.job_id = ? AND assignment_id = ? AND receipt IS NOT NULL"
    )
    for sha, *parts in connection.execute(query, (about.partition(".")[0], about)):
        if None in parts or sha256_hex(b"".join(parts)) != sha:
            yield f"{about}: its receipt is lost or damaged"


def _no_file(blobs: Path, sha: str) -> Iterator[str]:
    path = blobs / sha[:2] / sha
    if not path.is_file():
        yield f"blob {sha}: no file"
    elif sha256_hex(path.read_bytes()) != sha:
        yield f"blob {sha}: other bytes in the file"
