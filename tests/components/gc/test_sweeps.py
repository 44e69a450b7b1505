"""What has no row is looked for a little in each round, so that no start reads a whole store."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select, update

from swarm_hub.components.gc import budget, collector
from swarm_hub.components.gc.collector import Collector
from swarm_hub.storage import Store, schema
from swarm_hub.storage.blobs import chunks
from tests.conftest import MovableClock
from tests.helpers.stored import hub_on

LARGE_BYTES = 70_000


@pytest.fixture
async def shared(tmp_path: Path, postgres_url: str) -> AsyncIterator[Store]:
    """Return an open store on PostgreSQL."""
    opened = Store.at(postgres_url, tmp_path, MovableClock())
    await opened.open()
    yield opened
    await opened.close()


def on(store: Store, folder: Path) -> tuple[Collector, MovableClock]:
    clock = MovableClock()
    keeps_all = budget.create(None, 2**40, 1_000_000)
    return Collector(hub_on(store, folder, clock), keeps_all, "gateway"), clock


async def test_files_without_a_row_go_over_several_rounds(store: Store, tmp_path: Path) -> None:
    n_a_round = collector._FILES_LOOKED_AT // collector._FILES_A_READ
    orphans = [
        tmp_path / "blobs" / f"{number:02x}" / f"{number:02x}{62 * '0'}"
        for number in range(2 * n_a_round + 1)
    ]
    for path in orphans:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"left by a kill")
        os.utime(path, (1, 1))
    collecting, clock = on(store, tmp_path)
    left = []
    for _ in range(3):
        await collecting.collect()
        left.append(sum(path.exists() for path in orphans))
    assert left == [n_a_round + 1, 1, 0]
    another = orphans[-1]
    another.write_bytes(b"left by a kill")
    os.utime(another, (1, 1))
    await collecting.collect()
    assert another.exists()
    clock.monotonic_offset_s += collector._SWEEP_EVERY_S
    await collecting.collect()
    assert not another.exists()


async def test_chunks_without_a_row_go_over_several_rounds(
    shared: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 30_000)
    monkeypatch.setattr(chunks, "_LOOKED_AT", 4)
    bodies = [bytes([number]) * LARGE_BYTES for number in range(4)]
    kept = []
    for number, body in enumerate(bodies):
        sha, row = await shared.blobs.put(body, 1e12)
        if number % 2:
            await shared.commit([row])
            kept.append(sha)

    def grow_old(connection: Connection) -> None:
        connection.execute(update(schema.blob_chunks).values(put_at=1.0))

    def count(connection: Connection) -> int:
        query = select(func.count()).select_from(schema.blob_chunks)
        return int(connection.execute(query).scalar_one())

    collecting, _ = on(shared, tmp_path)
    await collecting.collect()
    assert await shared.read(count) == 12, "they may be those of a job that is being stored"
    await shared.change(grow_old)
    collecting, _ = on(shared, tmp_path)
    left = []
    for _ in range(4):
        await collecting.collect()
        left.append(await shared.read(count))
    assert left[0] > 6
    assert left[-1] == 6
    found = [await shared.blobs.get(sha) for sha in kept]
    assert found == [bodies[1], bodies[3]]
