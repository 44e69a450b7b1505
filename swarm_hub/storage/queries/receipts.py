"""Queries on receipts: the signed envelopes of results, each stored once per job."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import BigInteger, Connection, Row, Text, and_, bindparam, func, or_, select
from sqlalchemy.dialects.sqlite import insert

from swarm_hub.models.envelope import Envelope
from swarm_hub.models.receipt import Receipt
from swarm_hub.storage import schema
from swarm_hub.storage.write import Write

_E = schema.receipts
_R = schema.results
_N = schema.nodes

# An envelope may have 512 KiB and more: a page ends with the one that goes beyond this.
_PAGE_BYTES: Final = 1024 * 1024
_BEFORE_ALL: Final = -1

_INSERT: Final = insert(_E).on_conflict_do_nothing()
_PLACE: Final = select(_R.c.first_item).where(
    _R.c.job_id == bindparam("b_id"), _R.c.assignment_id == bindparam("b_after")
)
_RESULTS: Final = (
    select(
        _R.c.assignment_id, _R.c.idx, _R.c.first_item, _R.c.n_items, _R.c.node_id, _R.c.sha,
        _R.c.counted, _R.c.receipt, _N.c.name, func.length(_E.c.body).label("body_bytes"),
    )
    .join(_E, and_(_E.c.job_id == _R.c.job_id, _E.c.sha == _R.c.receipt))
    .outerjoin(_N, _N.c.peer_id == _R.c.node_id)
    .where(
        _R.c.job_id == bindparam("b_id"),
        _R.c.first_item >= bindparam("b_from", type_=BigInteger),
        or_(
            _R.c.first_item > bindparam("b_from", type_=BigInteger),
            _R.c.assignment_id > bindparam("b_after"),
        ),
        or_(bindparam("b_node", type_=Text) == "", _R.c.node_id == bindparam("b_node")),
    )
    .order_by(_R.c.first_item, _R.c.assignment_id)
    .limit(bindparam("b_limit", type_=BigInteger))
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ProvenResult:
    """A result that has a receipt; `node_name` is empty if the node's name is unknown."""

    assignment_id: str
    index: int
    first_item: int
    n_items: int
    node_id: str
    node_name: str
    sha: str
    counted: bool
    receipt: str


@dataclass(frozen=True, slots=True)
class ReceiptPage:
    """Some results of a job in item order, and the receipts that they have, by hash.

    `more` says whether there are further results after them.
    """

    results: tuple[ProvenResult, ...]
    receipts: Mapping[str, Receipt]
    more: bool


def keep(receipts: Iterable[tuple[str, Receipt]]) -> Write:
    """Return the rows of receipts, each with its job; an existing one stays."""
    return Write(
        _INSERT,
        [
            {
                "job_id": job_id,
                "sha": receipt.sha,
                "node_id": receipt.node_id,
                "kid": receipt.kid,
                "public_key": receipt.public_key,
                "header": receipt.envelope.header,
                "signature": receipt.envelope.signature,
                "body": receipt.envelope.body,
                "received_at": receipt.received_at,
                "certificate": receipt.certificate,
            }
            for job_id, receipt in receipts
        ],
    )


def page(
    connection: Connection, job_id: str, node_id: str | None, after: str | None, limit: int
) -> ReceiptPage | None:
    """Return up to `limit` results that have receipts, of one node or of all (None).

    They are fewer with large ones, and follow the result of the assignment `after`; None where the
    job has no such result.
    """
    place = _BEFORE_ALL
    if after is not None:
        found = connection.execute(_PLACE, {"b_id": job_id, "b_after": after}).scalar_one_or_none()
        if found is None:
            return None
        place = found
    values = {
        "b_id": job_id, "b_node": node_id or "", "b_from": place, "b_after": after or "",
        "b_limit": limit + 1,
    }  # fmt: skip
    rows = connection.execute(_RESULTS, values).all()
    shown = _fitting(rows[:limit])
    shas = {row.receipt for row in shown}
    receipts = {
        row.sha: _receipt(row)
        for row in connection.execute(select(_E).where(_E.c.job_id == job_id, _E.c.sha.in_(shas)))
    }
    results = tuple(
        ProvenResult(
            row.assignment_id, row.idx, row.first_item, row.n_items, row.node_id, row.name or "",
            row.sha, bool(row.counted), row.receipt,
        )
        for row in shown
    )  # fmt: skip
    return ReceiptPage(results, receipts, len(rows) > len(shown))


def _fitting(rows: Sequence[Any]) -> Sequence[Any]:
    """Return the first rows whose envelopes fit into a page, at least one."""
    size_bytes = 0
    seen: set[str] = set()
    for count, row in enumerate(rows, 1):
        if row.receipt not in seen:
            seen.add(row.receipt)
            size_bytes += row.body_bytes
        if size_bytes > _PAGE_BYTES:
            return rows[:count]
    return rows


def _receipt(row: Row[Any]) -> Receipt:
    envelope = Envelope(row.header, row.signature, row.body)
    return Receipt(row.node_id, row.kid, row.public_key, envelope, row.received_at, row.certificate)
