"""The tables of a hub; a gateway and a worker use different ones of the same schema.

They and all statements are written in SQLite's dialect; `engine/postgres_dialect.py` translates. It
is long because all tables are here, with what each column means.
"""

from typing import Any, Final

from sqlalchemy import (
    REAL,
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

# Every released schema, oldest first; the last one is what the tables below are. A change adds a
# migration of that name in migrations/versions/ and a copy of the previous schema to the tests.
REVISIONS: Final = (
    "0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010",
    "0011", "0012", "0013", "0014",
)  # fmt: skip
HEAD: Final = REVISIONS[-1]

metadata: Final = MetaData()

# STRICT tables of SQLite know INTEGER (64 bits) and REAL (a double), not BIGINT and FLOAT.
_BIGINT: Final = BigInteger().with_variant(Integer, "sqlite")
_DOUBLE: Final[Any] = Double().with_variant(REAL, "sqlite")


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    # The condition is a literal: with a bound value PostgreSQL's generic plan misses the index.
    return Index(name, *columns, unique=unique, sqlite_where=text(where))


def _shared(name: str, *columns: str, where: str) -> Index:
    """Return an index that only gateways need that share a store; it costs pages of each job."""
    index = _partial(name, *columns, where=where)
    index.info["dialect"] = "postgresql"
    return index.ddl_if(dialect="postgresql")


def _table(
    name: str, *parts: Column[object] | Index | PrimaryKeyConstraint, rowid: bool = True
) -> Table:
    return Table(name, metadata, *parts, sqlite_strict=True, sqlite_with_rowid=rowid)


meta: Final = _table(
    "meta", Column("key", Text, primary_key=True), Column("value", Text, nullable=False)
)

jobs: Final = _table(
    "jobs",
    Column("id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("gateway", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("idem_key", Text),
    Column("idem_sha", Text),
    Column("owner", Text, nullable=False),
    Column("spec", Text, nullable=False),
    Column("module_sha", Text, nullable=False),
    Column("module_bytes", _BIGINT, nullable=False),
    Column("dataset_sha", Text, nullable=False),
    Column("dataset_bytes", _BIGINT, nullable=False),
    Column("n_items", _BIGINT, nullable=False),
    Column("range_start", _BIGINT, nullable=False),
    Column("created_at", _DOUBLE, nullable=False),
    Column("started_at", _DOUBLE),
    Column("finished_at", _DOUBLE),
    Column("read_at", _DOUBLE),
    Column("failures", Text),
    Column("result_sha", Text),
    Column("result_bytes", _BIGINT),
    Column("result_inline", LargeBinary),
    Column("n_shards", Integer, nullable=False),
    Column("n_retries", Integer, nullable=False),
    # Set by a gateway that does not own the job, and acted upon by the one that does.
    Column("cancel_asked", Integer, nullable=False, server_default=text("0")),
    Column("script_sha", Text),
    # Of a job that has ended: what counts in it, and what its owner let it leave out.
    Column("n_done_items", _BIGINT, nullable=False, server_default=text("0")),
    Column("n_done_shards", Integer, nullable=False, server_default=text("0")),
    Column("n_failed_items", _BIGINT, nullable=False, server_default=text("0")),
    # The index of the files that its dataset was made of, a blob.
    Column("parts_sha", Text),
    # As `cancel_asked`: the new priority, labels or deadline as JSON, NULL if none is asked for.
    Column("change_asked", Text),
    # Of a job that its gateway gave up (`gateway` is empty): the one that shall adopt it.
    Column("offered_to", Text),
    # Most jobs have none; a full index would have an entry for each of those, too.
    _partial("jobs_by_key", "idem_key", where="idem_key IS NOT NULL", unique=True),
    _partial("jobs_unfinished", "id", where="finished_at IS NULL"),
    # Gateways that share a store look every second, and must not see the jobs of all others.
    _shared("jobs_by_gateway", "gateway", "id", where="finished_at IS NULL"),
    _shared(
        "jobs_asked",
        "gateway",
        "cancel_asked",
        where="finished_at IS NULL AND (cancel_asked = 1 OR change_asked IS NOT NULL)",
    ),
    # Most jobs complete, and cost it nothing.
    _partial("jobs_given_up", "id", where="state IN ('failed', 'cancelled')"),
    _partial("jobs_prunable", "finished_at", where="finished_at IS NOT NULL"),
    _partial("jobs_read", "read_at", where="read_at IS NOT NULL"),
    # Blobs are checked for uses one by one, so that no list of all uses is needed.
    Index("jobs_by_module", "module_sha"),
    _partial("jobs_by_script", "script_sha", where="script_sha IS NOT NULL"),
    Index("jobs_by_dataset", "dataset_sha"),
    _partial("jobs_by_parts", "parts_sha", where="parts_sha IS NOT NULL"),
    _partial(
        "jobs_by_result",
        "result_sha",
        where="result_inline IS NULL AND result_sha IS NOT NULL",
    ),
)

# The gateways that share this store; one whose lease has run out has its jobs taken over.
gateways: Final = _table(
    "gateways",
    Column("name", Text, primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("alive_until", _DOUBLE, nullable=False),
    # What it tells the others of itself, as JSON (`models/presence.py`).
    Column("presence", Text),
    rowid=False,
)

# What is left of a pruned job, so that its id is known to be removed. Its shards are removed in
# chunks: `rows_left` is 1 until none is left.
tombstones: Final = _table(
    "tombstones",
    Column("job_id", Text, primary_key=True),
    Column("pruned_at", _DOUBLE, nullable=False),
    Column("rows_left", Integer, nullable=False, server_default=text("0")),
    # 1 until none of its events is left; the last, `job_pruned`, outlives its other rows.
    Column("events_left", Integer, nullable=False, server_default=text("0")),
    _partial("tombstones_unswept", "job_id", where="rows_left = 1"),
    _partial("tombstones_with_events", "pruned_at", where="events_left = 1"),
    Index("tombstones_age", "pruned_at"),
    rowid=False,
)

shards: Final = _table(
    "shards",
    Column("job_id", Text, primary_key=True),
    Column("idx", Integer, primary_key=True),
    Column("state", Text, nullable=False),
    Column("first_item", _BIGINT, nullable=False),
    Column("n_items", _BIGINT, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("accepted_assignment", Text),
    _partial("shards_open", "job_id", "idx", where="state IN ('queued', 'assigned')"),
    _partial(
        "shards_given_up",
        "job_id",
        "first_item",
        where="state IN ('skipped', 'dead', 'cancelled')",
    ),
    # Few shards are: with these, and those that are open or given up, all others can be counted
    # without being looked at.
    _partial("shards_retried", "job_id", "idx", where="attempts > 1 OR state = 'split'"),
    rowid=False,
)

assignments: Final = _table(
    "assignments",
    Column("job_id", Text, primary_key=True),
    Column("idx", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("node_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("offered_at", _DOUBLE, nullable=False),
    Column("ended_at", _DOUBLE),
    rowid=False,
)

results: Final = _table(
    "results",
    Column("assignment_id", Text),
    Column("job_id", Text),
    Column("idx", Integer, nullable=False),
    Column("first_item", _BIGINT, autoincrement=False),
    Column("n_items", _BIGINT, nullable=False),
    Column("node_id", Text, nullable=False),
    Column("sha", Text, nullable=False),
    Column("size_bytes", _BIGINT, nullable=False),
    Column("body", LargeBinary),
    Column("wall_s", _DOUBLE, nullable=False),
    Column("cpu_s", _DOUBLE, nullable=False),
    Column("peak_memory_bytes", _BIGINT),
    Column("fuel", _BIGINT),
    Column("stderr", Text, nullable=False, server_default=text("''")),
    # 0: it was compared with others, or waits for them; another one counts or will.
    Column("counted", Integer, nullable=False, server_default=text("1")),
    # The hash of the envelope that it came in, NULL if that is not kept.
    Column("receipt", Text),
    # An assignment has one job and one first item, so this is as unique as its id, and one index
    # does for finding an assignment's result and a job's results in order.
    PrimaryKeyConstraint("job_id", "first_item", "assignment_id"),
    _partial("results_by_blob", "sha", where="body IS NULL"),
)

# The signed envelopes of results, once for each job with a result in them.
receipts: Final = _table(
    "receipts",
    Column("job_id", Text, primary_key=True),
    Column("sha", Text, primary_key=True),
    Column("node_id", Text, nullable=False),
    Column("kid", Text, nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("header", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("received_at", _DOUBLE, nullable=False),
    # The node's identity says that the key is its own; NULL if it has not said so.
    Column("certificate", LargeBinary),
)

blobs: Final = _table(
    "blobs",
    Column("sha", Text, primary_key=True),
    Column("size_bytes", _BIGINT, nullable=False),
    Column("body", LargeBinary),
    Column("last_ref", _DOUBLE, nullable=False),
)

# Large blobs if several gateways share a store; otherwise they are files.
blob_chunks: Final = _table(
    "blob_chunks",
    Column("sha", Text, primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("put_at", _DOUBLE, nullable=False),
    Column("body", LargeBinary, nullable=False),
    rowid=False,
)

# Blobs that owners have uploaded beforehand: each keeps its blob until it expires.
uploads: Final = _table(
    "uploads",
    Column("owner", Text, primary_key=True),
    Column("sha", Text, primary_key=True),
    Column("size_bytes", _BIGINT, nullable=False),
    Column("expires_at", _DOUBLE, nullable=False),
    Index("uploads_by_blob", "sha"),
    rowid=False,
)

events: Final = _table(
    "events",
    Column("seq", _BIGINT, primary_key=True, autoincrement=False),
    Column("event_type", Text, nullable=False),
    Column("job_id", Text),
    Column("time_fired", _DOUBLE, nullable=False),
    Column("data", Text, nullable=False),
    _partial("events_by_job", "job_id", "seq", where="job_id IS NOT NULL"),
    _partial("events_of_no_job", "seq", where="job_id IS NULL"),
)

# Events of a store that gateways share, from their commit until they are numbered: moments. The ids
# are in the order in which they were written, with gaps.
event_queue: Final = _table(
    "event_queue",
    Column("id", _BIGINT, primary_key=True),
    Column("event_type", Text, nullable=False),
    Column("job_id", Text),
    Column("time_fired", _DOUBLE, nullable=False),
    Column("data", Text, nullable=False),
)

nodes: Final = _table(
    "nodes",
    Column("peer_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("kid", Text),
    Column("public_key", LargeBinary),
    Column("first_seen", _DOUBLE, nullable=False),
    Column("last_seen", _DOUBLE, nullable=False),
    Column("banned_at", _DOUBLE),
    Column("ban_reason", Text),
    Column("ban_until", _DOUBLE),
    # `pending` or `approved` if the admission policy requires it, else NULL.
    Column("admission", Text),
    # Why an administrator keeps this node from getting work, else NULL.
    Column("drain_reason", Text),
    # Results that others confirmed, in a row, and those that they contradicted, in total.
    Column("agreements", Integer, nullable=False, server_default=text("0")),
    Column("contradictions", Integer, nullable=False, server_default=text("0")),
    # The owner of the device, who has one vote on a shard; NULL: the node stands for itself.
    Column("owner", Text),
    # How fast the node has run each program, as JSON; NULL until it was measured.
    Column("speeds", Text),
    # The labels that an administrator gave it, as JSON; NULL if none.
    Column("labels", Text),
    # When its owner or its standing was last written, by the store's clock; NULL: never.
    Column("standing_at", _DOUBLE),
    # Gateways that share a store look every few seconds for what others have judged.
    _partial("nodes_by_standing", "standing_at", where="standing_at IS NOT NULL"),
)

# One-time tokens with which a new node is admitted, under their hash.
invites: Final = _table(
    "invites",
    Column("token_sha", Text, primary_key=True),
    Column("created_at", _DOUBLE, nullable=False),
    Column("expires_at", _DOUBLE, nullable=False),
    Column("used_at", _DOUBLE),
    Column("used_by", Text),
    Column("owner", Text),
    rowid=False,
)

banned_networks: Final = _table(
    "banned_networks",
    Column("cidr", Text, primary_key=True),
    Column("banned_at", _DOUBLE, nullable=False),
    Column("reason", Text, nullable=False),
    Column("until", _DOUBLE),
    rowid=False,
)

# Signing keys that are no longer valid, whatever they sign.
revoked_keys: Final = _table(
    "revoked_keys",
    Column("kid", Text, primary_key=True),
    Column("revoked_at", _DOUBLE, nullable=False),
    Column("reason", Text, nullable=False),
    # The key whose owner ordered it elsewhere, NULL if it was ordered here.
    Column("issuer", Text),
    rowid=False,
)

# Tokens of the API, if gateways share the store; else they are in a file.
tokens: Final = _table(
    "tokens",
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("owner", Text),
    Column("sha256", Text, nullable=False),
    Column("created_at", _DOUBLE, nullable=False),
    Column("expires_at", _DOUBLE),
    # 1 of a token that is known to a browser alone.
    Column("session", Integer, nullable=False),
    rowid=False,
)
# The signed rotations by which a trusted key was replaced; a key has one successor.
key_rotations: Final = _table(
    "key_rotations",
    Column("kid", Text, primary_key=True),
    Column("statement", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    rowid=False,
)

# The replay cache: an envelope whose jti is in it has already taken effect.
seen: Final = _table(
    "seen",
    Column("jti", LargeBinary),
    Column("iss", Text, nullable=False),
    Column("body_hash", LargeBinary, nullable=False),
    Column("exp", _DOUBLE),
    # When the envelope itself expires, by its issuer's clock.
    Column("valid_until", _DOUBLE),
    # By time: ids are random, and each would touch a page of its own.
    PrimaryKeyConstraint("exp", "jti"),
    rowid=False,
)

# Where ids of an issuer were too many to keep: its envelopes that expire by then are all refused.
replay_floors: Final = _table(
    "replay_floors",
    Column("iss", Text, primary_key=True),
    Column("valid_until", _DOUBLE, nullable=False),
    rowid=False,
)

inbox: Final = _table(
    "inbox",
    Column("assignment_id", Text, primary_key=True),
    Column("gateway", Text, nullable=False),
    Column("call", Text, nullable=False),
    Column("input_sha", Text, nullable=False),
    Column("size_bytes", _BIGINT, nullable=False),
    Column("input", LargeBinary),
    Column("state", Text, nullable=False),
    Column("received_at", _DOUBLE, nullable=False),
    # The id of the gateway's store: any gateway on that store may take the result.
    Column("store_id", Text, nullable=False, server_default=text("''")),
)

outbox: Final = _table(
    "outbox",
    Column("assignment_id", Text, primary_key=True),
    Column("gateway", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("input_sha", Text, nullable=False),
    Column("sha", Text, nullable=False),
    Column("size_bytes", _BIGINT, nullable=False),
    Column("body", LargeBinary),
    Column("wall_s", _DOUBLE, nullable=False),
    Column("cpu_s", _DOUBLE, nullable=False),
    Column("created_at", _DOUBLE, nullable=False),
    Column("store_id", Text, nullable=False, server_default=text("''")),
    Column("peak_memory_bytes", _BIGINT),
    Column("fuel", _BIGINT),
    # The module and the call that the result is of.
    Column("call_sha", Text),
)

# How far the automations have followed the events, and the gateway that does; one row.
automation_reader: Final = _table(
    "automation_reader",
    Column("name", Text, primary_key=True),
    Column("gateway", Text, nullable=False),
    Column("seq", _BIGINT, nullable=False),
    rowid=False,
)

automations: Final = _table(
    "automations",
    Column("id", Text, primary_key=True),
    Column("enabled", Integer, nullable=False, server_default=text("1")),
    # What its triggers have to know across a restart, as JSON.
    Column("memory", Text, nullable=False),
)

# The outbox of automations: a run is written with the position of the event that started it, and
# has in it all that is to be done. Those that have ended are traces, of which some stay.
automation_runs: Final = _table(
    "automation_runs",
    Column("automation", Text),
    Column("id", Text),
    Column("state", Text, nullable=False),
    Column("created_at", _DOUBLE, nullable=False),
    Column("next_at", _DOUBLE, nullable=False),
    Column("body", Text, nullable=False),
    PrimaryKeyConstraint("automation", "id"),
    _partial("automation_runs_open", "next_at", where="state = 'open'"),
)
