"""Large uploads become blobs without ever being in memory whole, or leave nothing behind."""

import errno
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.client import ApiError, SwarmClient
from swarm_hub.exceptions import StoreFullError
from swarm_hub.storage import Store
from swarm_hub.storage.blobs.store import SPOOL_DIR
from swarm_hub.util.hashing import sha256_hex
from tests.conftest import Swarm, until

Start = Callable[[int], Awaitable[SwarmClient]]
Modules = Mapping[str, bytes]

BODY = random.Random(7).randbytes(3_500_000)


def spools(store: Store) -> list[Path]:
    folder = store.blobs.path("ab").parents[1] / SPOOL_DIR
    return list(folder.iterdir()) if folder.exists() else []


async def test_what_was_spooled_is_the_blob_of_its_hash(store: Store) -> None:
    with store.blobs.spool() as spool:
        for start in range(0, len(BODY), 70_000):
            await spool.write(BODY[start : start + 70_000])
        spooled = await spool.finish()
        assert (spooled.sha, spooled.size_bytes) == (sha256_hex(BODY), len(BODY))
        assert spool.mapped()[1000:2000] == BODY[1000:2000]
        await store.commit([await store.blobs.adopt(spooled, time.time())])
    assert await store.blobs.get(spooled.sha) == BODY
    assert spools(store) == []


async def test_the_same_upload_twice_is_one_blob(store: Store) -> None:
    for _ in range(2):
        with store.blobs.spool() as spool:
            await spool.write(BODY)
            await store.commit([await store.blobs.adopt(await spool.finish(), time.time())])
    assert await store.blobs.get(sha256_hex(BODY)) == BODY
    assert spools(store) == []


async def test_what_is_not_adopted_is_gone(store: Store) -> None:
    with store.blobs.spool() as spool:
        await spool.write(BODY)
        await spool.finish()
        assert len(spools(store)) == 1
    assert spools(store) == []
    assert await store.blobs.get(sha256_hex(BODY)) is None


async def test_what_a_kill_left_goes_with_the_next_start(swarm: Swarm) -> None:
    before = await swarm.gateway()
    await swarm.stop(before)
    folder = before.folder / "blobs" / SPOOL_DIR
    folder.mkdir(parents=True, exist_ok=True)
    left = folder / "17"
    left.write_bytes(b"half")
    # Without an upload.
    await swarm.gateway()

    async def there() -> bool:
        return left.exists()

    await until(there, lambda is_there: not is_there)


async def test_a_living_spool_stays_and_what_is_old_and_nobodys_goes(store: Store) -> None:
    with store.blobs.spool() as spool:
        await spool.write(BODY)
        await spool.finish()
        (living,) = spools(store)
        # A slow upload may be older than the file that nobody could delete.
        os.utime(living, (0, 0))
        nobodys = living.with_name(living.name + "0")
        nobodys.write_bytes(b"half")
        assert await store.blobs.tidy_spools() == 0
        os.utime(nobodys, (0, 0))
        assert await store.blobs.tidy_spools() == 1
        assert spools(store) == [living]
    assert spools(store) == []


async def test_a_full_disk_is_named_and_leaves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.blobs.spool() as spool:

        def full(_data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        class Full:
            write = staticmethod(full)

            def close(self) -> None: ...

        spool._file.close()
        monkeypatch.setattr(spool, "_file", Full())
        await spool.write(BODY)
        with pytest.raises(StoreFullError):
            await spool.finish()
    assert spools(store) == []


@pytest.mark.parametrize("split", ["records:1000", "lines"])
async def test_a_large_upload_is_worked_on_like_a_small_one(
    gateway_with_workers: Start, modules: Modules, split: str
) -> None:
    swarm = await gateway_with_workers(1)
    lines = b"".join(b"line %d\n" % number for number in range(300_000))
    body = lines if split == "lines" else BODY
    job_id = await swarm.submit(modules["echo"], body, split=split, reduce="concat")
    status = await swarm.wait(job_id)
    assert status["state"] == "completed", status
    assert await swarm.result(job_id) == body
    items = lines.count(b"\n") if split == "lines" else len(BODY) // 1000
    assert status["progress"]["items"] == items


async def test_a_refused_upload_is_not_kept(gateway_with_workers: Start, modules: Modules) -> None:
    swarm = await gateway_with_workers(1)
    with pytest.raises(ApiError, match="not a multiple of the 1000 bytes"):
        await swarm.submit(modules["echo"], BODY + b"x", split="records:1000")
