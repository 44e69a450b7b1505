"""Blobs: bytes under their hash, verified when they are read."""

import asyncio
import os
import random
import time
from pathlib import Path

import pytest

from swarm_hub.const import INLINE_MAX_BYTES
from swarm_hub.exceptions import StoreError
from swarm_hub.storage import Store
from swarm_hub.storage.queries import pruning
from swarm_hub.util.hashing import sha256_hex

# How long gc leaves alone what was touched (collector.py).
GRACE_S = 60.0
LARGE = random.Random(1).randbytes(INLINE_MAX_BYTES + 1)


def files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [0, 1, INLINE_MAX_BYTES, INLINE_MAX_BYTES + 1, 1_000_000])
async def test_bytes_come_back_under_their_hash(store: Store, tmp_path: Path, size: int) -> None:
    body = random.Random(size).randbytes(size)
    sha, row = await store.blobs.put(body, time.time())
    await store.commit([row])
    assert sha == sha256_hex(body)
    assert await store.blobs.get(sha) == body
    assert len(files(tmp_path)) == (size > INLINE_MAX_BYTES)


async def test_an_unknown_blob_is_none(store: Store) -> None:
    assert await store.blobs.get("0" * 64) is None


async def test_the_same_bytes_are_kept_once(store: Store, tmp_path: Path) -> None:
    for _ in range(3):
        _, row = await store.blobs.put(LARGE, time.time())
        await store.commit([row])
    assert len(files(tmp_path)) == 1


async def test_the_same_bytes_put_at_once_are_whole(store: Store, tmp_path: Path) -> None:
    made = await asyncio.gather(*(store.blobs.put(LARGE, time.time()) for _ in range(20)))
    await store.commit([row for _, row in made])
    assert [path.name for path in files(tmp_path)] == [sha256_hex(LARGE)]
    assert await store.blobs.get(made[0][0]) == LARGE


async def test_a_file_without_its_row_does_not_exist(store: Store) -> None:
    sha, _ = await store.blobs.put(LARGE, time.time())
    assert await store.blobs.get(sha) is None


@pytest.mark.parametrize("damage", ["bit", "cut"])
async def test_a_damaged_file_is_detected(store: Store, damage: str) -> None:
    sha, row = await store.blobs.put(LARGE, time.time())
    await store.commit([row])
    changed = LARGE[:-1] if damage == "cut" else bytes([LARGE[0] ^ 1]) + LARGE[1:]
    store.blobs.path(sha).write_bytes(changed)
    with pytest.raises(StoreError, match="damaged on disk"):
        await store.blobs.get(sha)


async def test_a_file_that_was_cut_short_is_put_again(store: Store) -> None:
    sha, row = await store.blobs.put(LARGE, time.time())
    await store.commit([row])
    store.blobs.path(sha).write_bytes(LARGE[:100])
    await store.blobs.put(LARGE, time.time())
    assert await store.blobs.get(sha) == LARGE


async def test_a_lost_file_is_none(store: Store) -> None:
    sha, row = await store.blobs.put(LARGE, time.time())
    await store.commit([row])
    store.blobs.path(sha).unlink()
    assert await store.blobs.get(sha) is None


async def test_a_large_blob_is_read_in_parts(store: Store) -> None:
    sha, _ = await store.blobs.put(LARGE, time.time())
    with store.blobs.mapped(sha) as view:
        assert view[1000:2000] == LARGE[1000:2000]


async def test_the_sweep_takes_old_orphans_only(store: Store, tmp_path: Path) -> None:
    names = {name: store.blobs.path(f"{number:02x}" * 32) for number, name in
             enumerate(("orphan", "young", "known"))}  # fmt: skip
    for name, path in names.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        if name != "young":
            os.utime(path, (0, 0))
    swept = [await store.blobs.sweep(f"{n:02x}", {names["known"].name}, 600) for n in range(3)]
    assert swept == [1, 0, 0]
    assert not names["orphan"].exists()
    assert len(files(tmp_path)) == 2


async def test_a_blob_put_again_while_it_is_removed_is_kept(store: Store) -> None:
    """`put` finds the file and has not committed its row when the collector removes it."""
    sha, row = await store.blobs.put(LARGE, 0.0)
    await store.commit([row])
    unused, _ = await store.read(pruning.unused_blobs, "", 1.0, 10)
    assert unused == [sha]
    _, again = await store.blobs.put(LARGE, 100.0)
    await store.commit([pruning.drop_blobs(unused, 1.0)])
    await store.blobs.remove_files(unused)
    await store.blobs.sweep(sha[:2], set(), -1000)
    await store.commit([again])
    assert await store.blobs.get(sha) == LARGE


async def test_putting_and_removing_at_once_never_loses_a_committed_blob(store: Store) -> None:
    bodies = [bytes([number]) * (INLINE_MAX_BYTES + 1) for number in range(4)]

    async def put(body: bytes) -> None:
        for turn in range(10):
            _, row = await store.blobs.put(body, float(turn))
            await store.commit([row])

    async def remove() -> None:
        for turn in range(20):
            unused, _ = await store.read(pruning.unused_blobs, "", float(turn) / 2, 10)
            await store.commit([pruning.drop_blobs(unused, float(turn) / 2)])
            await store.blobs.remove_files(unused)

    await asyncio.gather(*(put(body) for body in bodies), remove())
    for body in bodies:
        _, row = await store.blobs.put(body, 1000.0)
        await store.commit([row])
        assert await store.blobs.get(sha256_hex(body)) == body


async def test_bytes_that_come_again_within_seconds_are_written_once(store: Store) -> None:
    body = b"a module"
    sha = sha256_hex(body)
    assert len(await store.blobs.touch(sha, body, 100.0)) == 1
    # What is not on disk yet may fail to get there.
    assert len(await store.blobs.touch(sha, body, 100.5)) == 1
    store.blobs.touched(sha, 100.0)
    assert await store.blobs.touch(sha, body, 109.0) == []
    # That one came by is no reason to count from it: the row says 100.
    store.blobs.touched(sha, 109.0)
    assert len(await store.blobs.touch(sha, body, 110.0)) == 1


async def test_a_clock_that_is_set_back_makes_no_note_newer_than_its_row(store: Store) -> None:
    body = b"a module"
    sha = sha256_hex(body)
    store.blobs.touched(sha, 1000.0)
    assert len(await store.blobs.touch(sha, body, 100.0)) == 1
    store.blobs.touched(sha, 100.0)
    assert len(await store.blobs.touch(sha, body, 1001.0)) == 1


async def test_a_module_that_came_again_is_not_collected(store: Store) -> None:
    body = b"a module"
    sha, row = await store.blobs.put(body, 100.0)
    await store.commit([row])
    store.blobs.touched(sha, 100.0)
    # A job is about to be stored that refers to it, and does not touch it.
    assert await store.blobs.touch(sha, body, 109.9) == []
    await store.commit([pruning.drop_blobs([sha], 109.9 - GRACE_S)])
    assert await store.blobs.get(sha) == body
