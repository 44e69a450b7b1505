"""Which gateway owns which job: leases of gateways, and the epoch of each job.

A gateway that shares its store renews its lease. When a lease has run out, another gateway adopts
its jobs and increments their epochs; a commit for a job with an older epoch is refused.
"""

import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    CTE,
    ColumnElement,
    CompoundSelect,
    Connection,
    Double,
    Text,
    any_,
    bindparam,
    cast,
    func,
    literal_column,
    null,
    or_,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.sql.functions import GenericFunction
from ulid_transform import ulid_now

from swarm_hub.exceptions import StoreFencedError
from swarm_hub.storage import schema
from swarm_hub.storage.write import Write

_E = schema.events
_G = schema.gateways
_J = schema.jobs

# Who owns a job that was given up.
_NOBODY: Final = ""
# The end of a lease that was given up instead of running out.
_RESIGNED: Final = -1.0


class JulianDay(GenericFunction[float]):
    """SQLite's way to tell the time; `engine/postgres_dialect.py` has PostgreSQL's."""

    type: Any = Double()
    name = "julianday"
    inherit_cache = True


# The store's own time for statements; in PostgreSQL that at which the transaction began.
STORE_TIME: Final[ColumnElement[float]] = (
    JulianDay(literal_column("'now'")) - literal_column("2440587.5", Double())
) * literal_column("86400.0", Double())

_INSERT = insert(_G)
_REGISTER: Final = _INSERT.on_conflict_do_update(
    index_elements=["name"],
    set_={"epoch": _G.c.epoch + literal_column("1"), "alive_until": _INSERT.excluded.alive_until},
)
_RESIGN: Final = (
    update(_G).where(_G.c.name == bindparam("b_name")).values(alive_until=bindparam("b_until"))
)
_ASK_TO_CANCEL: Final = (
    update(_J)
    .where(_J.c.id == bindparam("b_id"), _J.c.finished_at.is_(None))
    .values(cancel_asked=literal_column("1"))
)
_ANSWER_CHANGE: Final = (
    update(_J)
    .where(_J.c.id == bindparam("b_id"), _J.c.change_asked == bindparam("b_asked"))
    .values(change_asked=null())
)


def _owners() -> CTE:
    """Return the gateways that have unfinished jobs, by a step of the index for each of them.

    So their jobs are not looked at, however many there are.
    """
    first = select(func.min(_J.c.gateway).label("gateway")).where(_J.c.finished_at.is_(None))
    owners = first.cte("owners", recursive=True)
    after = (
        select(func.min(_J.c.gateway))
        .where(_J.c.finished_at.is_(None), _J.c.gateway > owners.c.gateway)
        .correlate(owners)
        .scalar_subquery()
    )
    return owners.union_all(select(after).where(owners.c.gateway.is_not(None)))


# Built once: gateways that share a store look every second.
_IS_MINE: Final = _J.c.gateway == bindparam("b_gateway")
_OWNERS: Final = _owners()
IS_ALIVE: Final = _G.c.alive_until > STORE_TIME
_LIVING: Final = select(_G.c.name).where(IS_ALIVE)
# One that its gateway gave up is that of whom it was offered to, as long as that one lives.
_IS_FREE: Final = or_(
    _J.c.offered_to.is_(None),
    _J.c.offered_to == bindparam("b_gateway"),
    _J.c.offered_to.not_in(_LIVING),
)
# The owners that are gone.
_ORPHANING: Final = select(_OWNERS.c.gateway).where(
    _OWNERS.c.gateway != bindparam("b_gateway"), _OWNERS.c.gateway.not_in(_LIVING)
)


def _look() -> CompoundSelect[Any]:
    """Return one statement for all that a gateway looks for, a row for each thing it may find."""
    nothing, is_open = literal_column("NULL", Text()), _J.c.finished_at.is_(None)
    newest = cast(func.coalesce(func.max(_E.c.seq), 0), Text())
    an_orphan = select(_J.c.id).where(is_open, _J.c.gateway == _OWNERS.c.gateway, _IS_FREE)
    return union_all(
        select(literal_column("'cancel'", Text()).label("what"), _J.c.id, nothing.label("told"))
        .where(is_open, _IS_MINE, _J.c.cancel_asked == literal_column("1")),
        select(literal_column("'change'", Text()), _J.c.id, _J.c.change_asked)
        .where(is_open, _IS_MINE, _J.c.change_asked.is_not(None)),
        select(literal_column("'orphaned'", Text()), nothing, nothing)
        .where(_ORPHANING.where(an_orphan.exists()).exists()),
        select(literal_column("'queued'", Text()), nothing, nothing)
        .where(select(schema.event_queue.c.id).exists()),
        select(literal_column("'newest'", Text()), nothing, newest),
    )  # fmt: skip


_LOOK: Final = _look()
_OWNED: Final = select(_J.c.id, _J.c.epoch).where(_J.c.finished_at.is_(None), _IS_MINE)

# Only a shared store asks, so it is PostgreSQL's `= ANY`: one statement for any number of jobs.
_VERIFY: Final = (
    select(_J.c.id, _J.c.gateway, _J.c.epoch)
    .where(_J.c.id == any_(bindparam("b_ids", type_=ARRAY(Text))))
    .order_by(_J.c.id)
    .with_for_update(read=True)
)


@dataclass(frozen=True, slots=True)
class Fence:
    """The jobs a unit writes for, with the epochs by which their gateway owns them."""

    gateway: str
    epochs: Mapping[str, int]


def store_now(connection: Connection) -> float:
    """Return the store's own time, so that gateways with different clocks agree on leases."""
    if connection.dialect.name == "postgresql":
        now = text("SELECT extract(epoch FROM clock_timestamp())::double precision")
        return float(connection.execute(now).scalar_one())
    return time.time()


def register(gateway: str, until: float) -> Write:
    """Return the row saying that a gateway is alive until that time of the store's clock."""
    return Write(_REGISTER, [{"name": gateway, "epoch": 1, "alive_until": until}])


def resign(gateway: str) -> Write:
    """Return what gives a lease up at once; its gateway still ends what it is writing."""
    return Write(_RESIGN, [{"b_name": gateway, "b_until": _RESIGNED}])


@dataclass(frozen=True, slots=True)
class Seen:
    """What a gateway finds in a shared store: what there is to do, and how far the events go."""

    orphaned: bool
    # Whether events wait to be numbered, and the newest that is.
    queued: bool
    newest_seq: int
    to_cancel: list[str]
    # Job id and what is asked, as `asked_change` reads it.
    to_change: list[tuple[str, str]]


def look(connection: Connection, gateway: str) -> Seen:
    """Return what others left for a gateway, in one statement."""
    rows = connection.execute(_LOOK, {"b_gateway": gateway})
    found: dict[str, list[Any]] = defaultdict(list)
    for what, job_id, told in rows:
        found[what].append((job_id, told))
    return Seen(
        orphaned="orphaned" in found,
        queued="queued" in found,
        newest_seq=int(found["newest"][0][1]),
        to_cancel=[job_id for job_id, _ in found["cancel"]],
        to_change=found["change"],
    )


def session_of(gateway: str) -> str:
    """Return the name of the session in which a gateway writes; at most 63 bytes are kept."""
    return f"swarm_hub {gateway}"[:63]


def end_sessions(connection: Connection) -> int:
    """End the writing sessions of gateways whose lease has run out; returns how many.

    One that was frozen in a transaction would hold the rows of its jobs forever.
    """
    if connection.dialect.name != "postgresql":
        return 0
    gone = select(_G.c.name).where(
        _G.c.alive_until <= store_now(connection), _G.c.alive_until != _RESIGNED
    )
    names = [session_of(name) for name in connection.execute(gone).scalars()]
    ended = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
        "current_database() AND usename = current_user AND application_name = ANY(:names)"
    )
    return len(connection.execute(ended, {"names": names}).all())


def adopt(
    connection: Connection, gateway: str, *, starting: bool, limit: int | None = None
) -> dict[str, int]:
    """Take over unfinished jobs that no living gateway owns or was offered; returns job id → epoch.

    When it starts, a gateway also takes its own jobs, with a new epoch, and waits for what it may
    still be committing from before the restart; of a shared store it takes only those. With a
    `limit` others that are adopting get the rest. Runs inside a write.
    """
    owners, given = [gateway], {"b_gateway": gateway}
    if not (starting and connection.dialect.name == "postgresql"):
        orphaning = list(connection.execute(_ORPHANING, given).scalars())
        owners = [*orphaning, *(owners if starting else ())]
    found = (
        select(_J.c.id)
        .where(_J.c.finished_at.is_(None), _J.c.gateway.in_(owners), _IS_FREE)
        .order_by(_J.c.id)
        .limit(limit)
        .with_for_update(skip_locked=not starting)
    )
    taken = (
        update(_J)
        .where(_J.c.id.in_(list(connection.execute(found, given).scalars())))
        .values(gateway=gateway, epoch=_J.c.epoch + 1, offered_to=null())
        .returning(_J.c.id, _J.c.epoch)
    )
    return {row.id: row.epoch for row in connection.execute(taken)}


def offer(connection: Connection, gateway: str, to: str, epochs: Mapping[str, int]) -> list[str]:
    """Give up jobs that a gateway owns with these epochs, for another to adopt; returns them.

    Runs inside a write.
    """
    mine = (
        select(_J.c.id, _J.c.epoch)
        .where(_J.c.id.in_(sorted(epochs)), _J.c.finished_at.is_(None), _J.c.gateway == gateway)
        .order_by(_J.c.id)
        .with_for_update()
    )
    given = [row.id for row in connection.execute(mine) if epochs[row.id] == row.epoch]
    connection.execute(
        update(_J)
        .where(_J.c.id.in_(given))
        .values(gateway=_NOBODY, epoch=_J.c.epoch + 1, offered_to=to)
    )
    return given


def owned(connection: Connection, gateway: str) -> dict[str, int]:
    """Return the epochs of the unfinished jobs of a gateway, by id."""
    rows = connection.execute(_OWNED, {"b_gateway": gateway})
    return {row.id: row.epoch for row in rows}


def verify(connection: Connection, fences: Sequence[Fence]) -> None:
    """Check that gateways own jobs with these epochs, and keep it so until the transaction ends.

    Raises StoreFencedError naming those that were lost.
    """
    job_ids = {job_id for fence in fences for job_id in fence.epochs}
    if not job_ids:
        return
    rows = connection.execute(_VERIFY, {"b_ids": sorted(job_ids)})
    owned = {(row.id, row.gateway, row.epoch) for row in rows}
    lost = [
        job_id
        for fence in fences
        for job_id, epoch in fence.epochs.items()
        if (job_id, fence.gateway, epoch) not in owned
    ]
    if lost:
        raise StoreFencedError(lost)


def ask_to_cancel(connection: Connection, job_ids: Sequence[str]) -> None:
    """Ask the owners of jobs to cancel them; call it in a write of its own.

    One that holds jobs of this gateway, too, could wait for an owner who waits for one of those.
    """
    connection.execute(_ASK_TO_CANCEL, [{"b_id": job_id} for job_id in sorted(job_ids)])


def ask_to_change(connection: Connection, job_id: str, change: Mapping[str, Any]) -> bool:
    """Ask the owner of a job to change it, besides what it was asked before; call it in a write.

    Returns whether the job is unfinished.
    """
    row = connection.execute(
        select(_J.c.change_asked)
        .where(_J.c.id == job_id, _J.c.finished_at.is_(None))
        .with_for_update()
    ).one_or_none()
    if row is None:
        return False
    before = {} if row.change_asked is None else json.loads(row.change_asked)
    # The number tells it from the same one asked later.
    asked = {"change": {**before.get("change", {}), **change}, "id": ulid_now()}
    connection.execute(update(_J).where(_J.c.id == job_id).values(change_asked=json.dumps(asked)))
    return True


def asked_change(asked: str) -> dict[str, Any]:
    """Return what a job's owner is asked to change."""
    change: dict[str, Any] = json.loads(asked)["change"]
    return change


def answer_change(job_id: str, asked: str) -> Write:
    """Return the note that what was asked has been done, unless more is asked by now."""
    return Write(_ANSWER_CHANGE, [{"b_id": job_id, "b_asked": asked}])


def is_asked_to_change(connection: Connection, job_id: str) -> bool:
    """Return whether the owner of a job has yet to do what it was asked to change."""
    query = select(_J.c.change_asked).where(_J.c.id == job_id)
    return connection.execute(query).scalar_one_or_none() is not None


def gateways(connection: Connection) -> list[str]:
    """Return the peer ids of all gateways that this store has ever had."""
    return list(connection.execute(select(schema.gateways.c.name)).scalars())


def owner(connection: Connection, job_id: str) -> str | None:
    """Return which gateway an unfinished job belongs to, None when it has ended or is unknown."""
    query = select(_J.c.gateway).where(_J.c.id == job_id, _J.c.finished_at.is_(None))
    return connection.execute(query).scalar_one_or_none()
