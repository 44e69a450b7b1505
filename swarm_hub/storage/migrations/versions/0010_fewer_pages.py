"""Fewer pages for each commit: keys in the order of writing, and no index that nobody uses.

SQLite can't change a table's key, so three of its tables are written anew: with a gigabyte of
results that takes some seconds, once, and as much space until the transaction ends.
"""

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_ZERO: Final = sa.text("0")


def upgrade() -> None:
    """Change three keys and four indexes; no row changes."""
    if op.get_bind().dialect.name == "sqlite":
        _write_anew("jobs", _jobs(), ("id",))
        _write_anew("results", _results(), ("job_id", "first_item", "assignment_id"))
        _write_anew("seen", _seen(), ("exp", "jti"), rowid=False)
        for name, column, condition in (
            ("jobs_unfinished", "id", "finished_at IS NULL"),
            ("jobs_prunable", "finished_at", "finished_at IS NOT NULL"),
            ("jobs_read", "read_at", "read_at IS NOT NULL"),
            ("jobs_by_module", "module_sha", None),
            ("jobs_by_script", "script_sha", "script_sha IS NOT NULL"),
            ("jobs_by_dataset", "dataset_sha", None),
            ("jobs_by_parts", "parts_sha", "parts_sha IS NOT NULL"),
            ("results_by_blob", "sha", "body IS NULL"),
        ):
            _index(name, [column], condition)
    else:
        op.drop_constraint("jobs_idem_key_key", "jobs")
        op.drop_index("jobs_by_result", "jobs")
        op.drop_index("results_by_job", "results")
        op.drop_constraint("results_pkey", "results")
        op.create_primary_key("results_pkey", "results", ["job_id", "first_item", "assignment_id"])
        op.drop_index("seen_expiry", "seen")
        op.drop_constraint("seen_pkey", "seen")
        op.create_primary_key("seen_pkey", "seen", ["exp", "jti"])
    op.drop_index("inbox_open", "inbox")
    _index("jobs_by_key", ["idem_key"], "idem_key IS NOT NULL", unique=True)
    _index("jobs_by_result", ["result_sha"], "result_inline IS NULL AND result_sha IS NOT NULL")
    _index("shards_retried", ["job_id", "idx"], "attempts > 1 OR state = 'split'")


def _index(name: str, columns: list[str], condition: str | None, *, unique: bool = False) -> None:
    where = None if condition is None else sa.text(condition)
    table = name.partition("_")[0]
    op.create_index(name, table, columns, unique=unique, sqlite_where=where, postgresql_where=where)


def _write_anew(
    name: str, columns: list[sa.Column[Any]], key: tuple[str, ...], *, rowid: bool = True
) -> None:
    """Make a table again with the same rows and another key; its indexes are gone."""
    names = [column.name for column in columns]
    old = sa.table(name, *map(sa.column, names))
    new = op.create_table(
        f"new_{name}",
        *columns,
        sa.PrimaryKeyConstraint(*key),
        sqlite_strict=True,
        sqlite_with_rowid=rowid,
    )
    # Not in order: SQLite would sort all rows, with their bodies, in memory.
    op.execute(sa.insert(new).from_select(names, sa.select(old)))
    op.drop_table(name)
    op.rename_table(f"new_{name}", name)


def _jobs() -> list[sa.Column[Any]]:
    return [
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("idem_key", sa.Text()),
        sa.Column("idem_sha", sa.Text()),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("module_sha", sa.Text(), nullable=False),
        sa.Column("module_bytes", sa.Integer(), nullable=False),
        sa.Column("dataset_sha", sa.Text(), nullable=False),
        sa.Column("dataset_bytes", sa.Integer(), nullable=False),
        sa.Column("n_items", sa.Integer(), nullable=False),
        sa.Column("range_start", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.REAL(), nullable=False),
        sa.Column("started_at", sa.REAL()),
        sa.Column("finished_at", sa.REAL()),
        sa.Column("read_at", sa.REAL()),
        sa.Column("failures", sa.Text()),
        sa.Column("result_sha", sa.Text()),
        sa.Column("result_bytes", sa.Integer()),
        sa.Column("result_inline", sa.LargeBinary()),
        sa.Column("n_shards", sa.Integer(), nullable=False),
        sa.Column("n_retries", sa.Integer(), nullable=False),
        sa.Column("cancel_asked", sa.Integer(), nullable=False, server_default=_ZERO),
        sa.Column("script_sha", sa.Text()),
        sa.Column("n_done_items", sa.Integer(), nullable=False, server_default=_ZERO),
        sa.Column("n_done_shards", sa.Integer(), nullable=False, server_default=_ZERO),
        sa.Column("n_failed_items", sa.Integer(), nullable=False, server_default=_ZERO),
        sa.Column("parts_sha", sa.Text()),
    ]


def _results() -> list[sa.Column[Any]]:
    return [
        sa.Column("assignment_id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("idx", sa.Integer(), nullable=False),
        sa.Column("first_item", sa.Integer(), nullable=False),
        sa.Column("n_items", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.Text(), nullable=False),
        sa.Column("sha", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary()),
        sa.Column("wall_s", sa.REAL(), nullable=False),
        sa.Column("cpu_s", sa.REAL(), nullable=False),
        sa.Column("peak_memory_bytes", sa.Integer()),
        sa.Column("fuel", sa.Integer()),
        sa.Column("stderr", sa.Text(), nullable=False, server_default=""),
        sa.Column("counted", sa.Integer(), nullable=False, server_default=sa.text("1")),
        sa.Column("receipt", sa.Text()),
    ]


def _seen() -> list[sa.Column[Any]]:
    return [
        sa.Column("jti", sa.LargeBinary(), nullable=False),
        sa.Column("iss", sa.Text(), nullable=False),
        sa.Column("body_hash", sa.LargeBinary(), nullable=False),
        sa.Column("exp", sa.REAL(), nullable=False),
        sa.Column("valid_until", sa.REAL()),
    ]
