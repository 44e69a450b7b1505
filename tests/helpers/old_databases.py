"""Databases as an older swarm_hub left them, each with a job that runs and one that is done."""

import sqlite3
from contextlib import closing
from pathlib import Path

SCHEMAS = Path(__file__).parents[1] / "storage" / "migrations" / "schemas"
RUNNING_JOB = "01KAXXXXXXXXXXXXXXXXXXXXX2"
FINISHED_JOB = "01KAXXXXXXXXXXXXXXXXXXXXX1"


def old_database(folder: Path, revision: str) -> Path:
    """Make a database as an older swarm_hub left it."""
    path = folder / "swarm_hub.db"
    with closing(sqlite3.connect(path)) as database:
        database.executescript((SCHEMAS / f"{revision}.sql").read_text())
    return path
