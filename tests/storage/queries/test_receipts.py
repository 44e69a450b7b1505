"""Receipts in the store, on SQLite and on PostgreSQL: kept once a job, read in pages, removed."""

import asyncio
import itertools
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm_hub.models.envelope import Envelope
from swarm_hub.models.receipt import Receipt
from swarm_hub.models.shard import ShardResult, assignment_id
from swarm_hub.storage import Store
from swarm_hub.storage.queries import nodes, pruning, receipts, shard_results
from swarm_hub.storage.queries.receipts import ReceiptPage
from swarm_hub.util.clock import Clock
from tests.helpers.stored import made_receipt, put_job, receipts_of


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.process)])
async def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Return an open store of each kind."""
    if request.param == "sqlite":
        opened = Store.on_file(tmp_path / "swarm_hub.db", Clock())
    else:
        opened = Store.at(request.getfixturevalue("postgres_url"), tmp_path, Clock())
    await opened.open()
    yield opened
    await opened.close()


def result(
    job_id: str, index: int, attempt: int = 1, receipt: Receipt | None = None, counted: bool = True
) -> ShardResult:
    return ShardResult(
        assignment_id(job_id, index, attempt), job_id, index, index * 10, 10, f"node-{attempt}",
        f"sha-{index}", 2, b"42", 0.1, 0.1, counted=counted,
        receipt=None if receipt is None else receipt.sha,
    )  # fmt: skip


async def page(
    store: Store, job_id: str, after: str | None = None, limit: int = 100
) -> ReceiptPage:
    found = await store.read(receipts.page, job_id, None, after, limit)
    assert found is not None
    return found


async def test_an_envelope_is_kept_once_for_each_job_with_a_result_in_it(any_store: Store) -> None:
    receipt = made_receipt(1, b"\x00body")
    results = [result(job_id, n, receipt=receipt) for job_id in "AB" for n in range(3)]
    rows = receipts.keep([("A", receipt), ("B", receipt)])
    await any_store.commit([shard_results.put(results), rows])
    # A result that was fetched later comes with its envelope again.
    late = result("A", 3, receipt=receipt)
    await any_store.commit([shard_results.put([late]), receipts.keep([("A", receipt)])])
    found = await page(any_store, "A")
    assert [each.index for each in found.results] == [0, 1, 2, 3]
    assert found.receipts == {receipt.sha: receipt}
    assert {each.receipt for each in found.results} == {receipt.sha}
    assert found.receipts[receipt.sha].envelope == Envelope(b"header 1", bytes(64), b"\x00body")
    assert len((await page(any_store, "B")).results) == 3
    assert (await page(any_store, "C")) == ReceiptPage((), {}, False)


async def test_a_result_tells_its_node_and_whether_it_counts_and_one_without_is_left_out(
    any_store: Store,
) -> None:
    first, second = made_receipt(1, b"1"), made_receipt(2, b"2", "node-2")
    await any_store.commit(
        [
            nodes.see("node-1", "kitchen", "kid", b"key", 1.0),
            shard_results.put(
                [
                    result("A", 0, 1, first, counted=False),
                    result("A", 0, 2, second),
                    result("A", 1, 1),
                ]
            ),
            receipts.keep([("A", first), ("A", second)]),
        ]
    )
    found = await page(any_store, "A")
    told = [(each.node_id, each.node_name, each.counted) for each in found.results]
    assert told == [("node-1", "kitchen", False), ("node-2", "", True)]
    assert [each.n_items for each in found.results] == [10, 10]
    for node, index in (("node-1", 0), ("node-2", 1)):
        alone = await any_store.read(receipts.page, "A", node, None, 10)
        assert alone is not None
        assert alone.results == (found.results[index],)


async def test_a_page_ends_where_its_envelopes_become_too_large(any_store: Store) -> None:
    made = [made_receipt(n, bytes(300_000)) for n in range(6)]
    results = [result("A", n, receipt=made[n // 2]) for n in range(12)]
    await any_store.commit(
        [shard_results.put(results), receipts.keep(("A", each) for each in made)]
    )
    first = await page(any_store, "A")
    assert (len(first.receipts), len(first.results), first.more) == (4, 7, True)
    rest = await page(any_store, "A", first.results[-1].assignment_id)
    # The envelope of the last one has another result, so it comes once more.
    assert (len(rest.receipts), len(rest.results), rest.more) == (3, 5, False)


async def test_after_a_result_that_the_job_does_not_have_there_is_no_page(any_store: Store) -> None:
    await put_job(any_store, "A", ended_at=1.0, envelope=b"1")
    await put_job(any_store, "B", ended_at=1.0, envelope=b"1")
    assert (await page(any_store, "A", "A.0.1")).results == ()
    for unknown in ("B.0.1", "A.0.2", "", "no id"):
        assert await any_store.read(receipts.page, "A", None, unknown, 10) is None


async def test_receipts_go_with_their_job_a_bounded_part_at_a_time(any_store: Store) -> None:
    await put_job(any_store, "A", ended_at=1.0, n_shards=12, envelope=bytes(500_000))
    await put_job(any_store, "B", ended_at=1.0, n_shards=2, envelope=b"small")
    await any_store.commit(pruning.prune("A", 2.0))
    left = [await any_store.read(receipts_of, "A")]
    while (await any_store.change(pruning.sweep, 0.0, 1000)).more:
        left.append(await any_store.read(receipts_of, "A"))
    # 500 KB cost as much as 625 small rows: two go at a time.
    assert all(before - after <= 2 for before, after in itertools.pairwise(left))
    assert await any_store.read(receipts_of, "A") == 0
    assert await any_store.read(receipts_of, "B") == 2


@settings(max_examples=15)
@given(
    shape=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    shared=st.integers(1, 4),
    limit=st.integers(1, 7),
)
def test_pages_give_every_result_once_in_order_with_its_receipt(
    shape: list[int], shared: int, limit: int
) -> None:
    """`shape` are the results of each shard, `shared` how many have an envelope together."""
    names = [(index, attempt) for index, n in enumerate(shape) for attempt in range(1, n + 1)]
    made = [made_receipt(place // shared, b"body") for place in range(len(names))]
    results = [result("A", *name, receipt=each) for name, each in zip(names, made, strict=True)]

    async def check(folder: Path) -> None:
        store = Store.on_file(folder / "swarm_hub.db", Clock())
        await store.open()
        try:
            rows = receipts.keep(("A", each) for each in made)
            await store.commit([shard_results.put(reversed(results)), rows])
            found: list[str] = []
            after, more = None, True
            while more:
                one = await page(store, "A", after, limit)
                assert 0 < len(one.results) <= limit or not names
                assert one.receipts.keys() == {each.receipt for each in one.results}
                found += [each.assignment_id for each in one.results]
                after, more = found[-1] if found else None, one.more
            assert found == [each.assignment_id for each in results]
        finally:
            await store.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check(Path(folder)))
