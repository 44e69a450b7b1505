"""What was written to a database, as SQLite's own index of the log has it."""

import sqlite3
from contextlib import closing
from pathlib import Path

from wal import WalMeter, Written


def test_transactions_and_their_pages_are_counted_also_over_a_log_that_begins_anew(
    tmp_path: Path,
) -> None:
    path = tmp_path / "swarm_hub.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE rows (n INTEGER)")
        meter = WalMeter(path)
        assert meter.read() == Written(0, 0)
        for _ in range(3):
            database.execute("INSERT INTO rows VALUES (1)")
        # Each wrote the one page of its table.
        assert meter.read() == Written(3, 3)
        # Nothing is written, so this is none.
        database.execute("BEGIN IMMEDIATE")
        database.execute("COMMIT")
        assert meter.read() == Written(3, 3)
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("INSERT INTO rows VALUES (1)")
        assert meter.read() == Written(4, 4)
