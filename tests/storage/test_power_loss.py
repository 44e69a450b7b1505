"""Power cuts: whatever the disk made of unsynced writes, acknowledged rows and blobs are there.

A store works on a disk that records every write and every sync (faultfs.c); then each test
builds what a disk could hold after a power cut at many points of that record (powerloss.py).
"""

import asyncio
import json
import os
import random
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from unittest.mock import patch

import pytest

from swarm_hub.const import INLINE_MAX_BYTES
from swarm_hub.storage import Store
from swarm_hub.storage.engine import sqlite
from swarm_hub.storage.queries import replay_cache
from swarm_hub.util.clock import Clock
from tests.helpers.faults import FaultFs, Scenario, mark
from tests.helpers.promises import Promises, damaged_blobs, twice_or_torn
from tests.helpers.transitions import live
from tests.storage.powerloss import Disk, Operation, read_log, write_image

pytestmark = pytest.mark.slow

CRASHES = [100, pytest.param(320, marks=pytest.mark.nightly)]
# A later run can be given the seed that a failure printed.
SEED = int(os.environ.get("SWARM_HUB_TEST_SEED") or int.from_bytes(os.urandom(4), "big"))
DATABASE = "swarm_hub.db"


async def works(folder: Path, seed: int, synchronous: str) -> None:
    """Three lives in one process: two end well, the third is cut off.

    A checkpoint comes every 100 pages and not every 1000, so that a small database sees many.
    """
    changed = {"synchronous=FULL": synchronous, "wal_autocheckpoint=1000": "wal_autocheckpoint=100"}
    pragmas = tuple(changed.get(pragma, pragma) for pragma in sqlite._WRITER_PRAGMAS)
    assert set(changed) <= set(sqlite._WRITER_PRAGMAS)

    def say(*words: str) -> None:
        mark(json.dumps(words))

    with patch.object(sqlite, "_WRITER_PRAGMAS", pragmas):
        for life in range(3):
            store = Store.on_file(folder / DATABASE, Clock())
            await store.open()
            await live(store, say, f"life-{life}", random.Random(seed + life), turns=7)
            # Whatever the seed chose, some bodies are files.
            for number in range(2):
                body = random.Random(f"{life}.{number}").randbytes(INLINE_MAX_BYTES + 1)
                _, row = await store.blobs.put(body, 0.0)
                await store.commit([row])
            if life < 2:
                await store.close()


async def caches_first(folder: Path) -> None:
    """A hub that is a worker, too: its cache has the bytes before a job brings them."""
    store = Store.on_file(folder / DATABASE, Clock())
    await store.open()
    mark("opened")
    for number in range(3):
        body = random.Random(number).randbytes(INLINE_MAX_BYTES + 1)
        await store.blobs.put(body, 0.0, durable=False)
        _, row = await store.blobs.put(body, 0.0)
        await store.commit([row])


async def puts_at_once(folder: Path) -> None:
    """Several jobs bring the same bytes at the same time; each commits its row when it can."""
    store = Store.on_file(folder / DATABASE, Clock())
    await store.open()
    mark("opened")

    async def put(body: bytes) -> None:
        _, row = await store.blobs.put(body, 0.0)
        await store.commit([row])

    for number in range(3):
        body = random.Random(number).randbytes(INLINE_MAX_BYTES + 1)
        await asyncio.gather(*(put(body) for _ in range(8)))


@dataclass(frozen=True, slots=True)
class Record:
    """What a store did on the recording disk, and the directory it left."""

    operations: list[Operation]
    folder: Path


@pytest.fixture(scope="module")
def record_of(faultfs: FaultFs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    made = {}
    for synchronous in ("FULL", "NORMAL"):
        folder = tmp_path_factory.mktemp(synchronous)
        log = folder / "log"
        faultfs.run(works, folder / "store", SEED, f"synchronous={synchronous}", log=log)
        made[synchronous] = Record(list(read_log(log)), folder / "store")
    return made


def test_the_record_is_complete(record_of: dict[str, Record]) -> None:
    """Replayed whole it gives the directory that the store left, so no call was overlooked."""
    record = record_of["FULL"]
    disk = Disk()
    for operation in record.operations:
        disk.apply(operation)
    real = {
        PurePosixPath(path.relative_to(record.folder)): path.read_bytes()
        for path in record.folder.rglob("*")
        if path.is_file() and not path.name.endswith("-shm")
    }
    found = {path: data for path, data in disk.whole().items() if not path.name.endswith("-shm")}
    assert {path: len(data) for path, data in found.items()} == {
        path: len(data) for path, data in real.items()
    }
    assert found == real


def test_the_record_has_checkpoints_new_wals_and_blob_files(record_of: dict[str, Record]) -> None:
    record = record_of["FULL"]
    opened = {}
    writes: Counter[tuple[str, int]] = Counter()
    for operation in record.operations:
        if operation.kind == "O":
            opened[operation.handle] = operation.first.decode()
        elif operation.kind == "W":
            writes[opened[operation.handle], operation.number] += 1
    assert writes[DATABASE, 0] > 5, "checkpoints rewrite the first page"
    assert writes[f"{DATABASE}-wal", 0] > 5, "a WAL that starts again rewrites its header"
    assert sum(operation.kind == "R" for operation in record.operations) > 3


async def goes_on(database: Path) -> None:
    """Let a store recover the file, write, and fold the WAL into it."""
    store = Store.on_file(database, Clock())
    await store.open()
    await store.commit([replay_cache.remember(b"after the power cut", "peer", b"hash", 10**12)])
    await store.close()


def losses(record: Record, folder: Path, cuts: int) -> tuple[int, list[list[str]]]:
    """Return how many words were acknowledged, and what each of so many power cuts broke."""
    rng = random.Random(SEED)
    n_operations = len(record.operations)
    words = [number for number, each in enumerate(record.operations) if each.kind == "A"]
    # Half of the cuts come right after a word, where keeping it is hardest.
    points = Counter(
        rng.choice(words) if turn % 2 else rng.randrange(words[0], n_operations)
        for turn in range(cuts)
    )
    disk, promises, lost = Disk(), Promises(), []
    for number, operation in enumerate(record.operations):
        disk.apply(operation)
        if operation.kind == "A":
            promises.hear(*json.loads(operation.first))
        for _ in range(points[number]):
            write_image(disk.after_power_loss(rng), folder)
            database = folder / DATABASE
            broken = promises.broken(database) + twice_or_torn(database)
            broken = broken or damaged_blobs(database)
            if not broken and len(lost) % 16 == 0:
                asyncio.run(goes_on(database))
                broken = promises.broken(database) + twice_or_torn(database)
            lost.append(broken)
            shutil.rmtree(folder)
    return promises.acknowledged, lost


@pytest.mark.parametrize("crashes", CRASHES)
def test_a_power_cut_loses_nothing_acknowledged(
    record_of: dict[str, Record], tmp_path: Path, crashes: int
) -> None:
    acknowledged, lost = losses(record_of["FULL"], tmp_path / "image", crashes)
    print(f"{acknowledged} acknowledged, {len(lost)} power cuts, {sum(map(bool, lost))} lost")
    assert [broken for broken in lost if broken] == [], f"SWARM_HUB_TEST_SEED={SEED} repeats it"


def test_without_full_synchronisation_the_same_cuts_do_lose_rows(
    record_of: dict[str, Record], tmp_path: Path
) -> None:
    """The simulation can fail: `synchronous=NORMAL` does not sync each commit."""
    acknowledged, lost = losses(record_of["NORMAL"], tmp_path / "image", 100)
    print(f"{acknowledged} acknowledged, {len(lost)} power cuts, {sum(map(bool, lost))} lost")
    assert sum(map(bool, lost)) > len(lost) / 10, f"SWARM_HUB_TEST_SEED={SEED} repeats it"


@pytest.mark.parametrize("scenario", [caches_first, puts_at_once])
def test_a_blob_whose_row_is_on_disk_has_its_file_whoever_wrote_it(
    faultfs: FaultFs, tmp_path: Path, scenario: Scenario
) -> None:
    faultfs.run(scenario, tmp_path / "store", log=tmp_path / "log")
    rng, disk, opened, lost = random.Random(SEED), Disk(), False, []
    for operation in read_log(tmp_path / "log"):
        disk.apply(operation)
        opened |= operation.kind == "A"
        for _ in range(2 * opened):
            write_image(disk.after_power_loss(rng), tmp_path / "image")
            lost += damaged_blobs(tmp_path / "image" / DATABASE)
            shutil.rmtree(tmp_path / "image")
    assert lost == [], f"SWARM_HUB_TEST_SEED={SEED} repeats it"
