"""A disk that is full: nothing half-stored, nothing lost, and the same store goes on later.

The disk of most tests is faultfs.c, where space comes and goes by the byte. One test has a real
tmpfs of 8 MB, which tells whether a file system's own ENOSPC is like ours.
"""

import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.const import INLINE_MAX_BYTES
from swarm_hub.exceptions import StoreError, StoreFullError
from swarm_hub.models.event import EventType, NewEvent
from swarm_hub.storage import Store, Write
from swarm_hub.storage.queries import events, inbox, replay_cache
from swarm_hub.storage.queries.inbox import InboxEntry
from swarm_hub.util.clock import Clock
from tests.helpers.faults import FaultFs, Space, run
from tests.helpers.promises import damaged_blobs, look

FOREVER = 10**12
FULL = "no space left on the disk"
ROW_BYTES = 10_000
TMPFS_BYTES = 8 << 20


async def opened(folder: Path) -> Store:
    store = Store.on_file(folder / "swarm_hub.db", Clock())
    await store.open()
    return store


def entry(number: int) -> Write:
    body = random.Random(number).randbytes(ROW_BYTES)
    return inbox.accept(
        [InboxEntry(f"{number:06}", "gateway", "{}", "sha", len(body), body, float(number), "")]
    )


async def write_until_full(store: Store, first: int = 0) -> tuple[list[int], str]:
    """Accept assignments until one fails; return the acknowledged ones and the error."""
    acknowledged: list[int] = []
    for number in range(first, first + 5000):
        try:
            await store.commit(
                [entry(number), replay_cache.remember(b"%d" % number, "p", b"", FOREVER)]
            )
        except StoreError as error:
            return acknowledged, str(error)
        acknowledged.append(number)
    raise AssertionError("the disk was never full")


async def kept(store: Store) -> list[int]:
    """Return the stored assignments; each is whole, with the row that came with it."""
    entries = await store.read(inbox.open_entries)
    numbers = [int(each.assignment_id) for each in entries]
    for each, number in zip(entries, numbers, strict=True):
        assert each.input == random.Random(number).randbytes(ROW_BYTES)
    known = await store.read(replay_cache.unexpired, 0)
    assert {b"%d" % number for number in numbers} == set(known)
    return numbers


async def fills_and_recovers(folder: Path) -> dict[str, Any]:
    store, space = await opened(folder), Space.here()
    space.free_bytes = 1_000_000
    acknowledged, error = await write_until_full(store)
    while_full = await kept(store)
    refused = space.refused
    space.free_bytes = 1_000_000
    for number in range(10_000, 10_010):
        await store.commit([entry(number)])
        await store.commit([replay_cache.remember(b"%d" % number, "p", b"", FOREVER)])
    after = await kept(store)
    await store.close()
    reopened = await opened(folder)
    again = await kept(reopened)
    await reopened.close()
    return {
        "error": error,
        "refused": refused,
        "acknowledged": acknowledged,
        "while_full": while_full,
        "after": after,
        "again": again,
    }


def assert_kept_and_recovered(found: dict[str, Any]) -> None:
    assert len(found["acknowledged"]) > 20
    assert FULL in found["error"]
    assert found["while_full"] == found["acknowledged"]
    assert found["after"] == [*found["acknowledged"], *range(10_000, 10_010)]
    assert found["again"] == found["after"]


def test_acknowledged_rows_stay_and_the_same_store_goes_on_when_space_is_back(
    faultfs: FaultFs, tmp_path: Path
) -> None:
    found = faultfs.run(fills_and_recovers, tmp_path / "store")
    assert found["refused"] > 0
    assert_kept_and_recovered(found)
    with look(tmp_path / "store" / "swarm_hub.db") as database:
        assert database.execute("PRAGMA quick_check").fetchall() == [("ok",)]


async def fills_by_the_byte(folder: Path, steps: list[int]) -> list[int]:
    """Let the space end at many places inside a transaction; return what each commit said."""
    store, space = await opened(folder), Space.here()
    await store.commit([entry(0), replay_cache.remember(b"0", "p", b"", FOREVER)])
    expected = [0]
    for number, step in enumerate(steps, 1):
        space.free_bytes = step
        try:
            await store.commit(
                [entry(number), replay_cache.remember(b"%d" % number, "p", b"", FOREVER)]
            )
            expected.append(number)
        except StoreError:
            pass
        assert await kept(store) == expected
    space.free_bytes = Space.UNLIMITED
    await store.commit([entry(9000), replay_cache.remember(b"9000", "p", b"", FOREVER)])
    assert await kept(store) == [*expected, 9000]
    await store.close()
    return expected


def test_a_unit_is_whole_or_absent_wherever_the_space_ends(
    faultfs: FaultFs, tmp_path: Path
) -> None:
    steps = list(range(0, 3 * ROW_BYTES, 611))
    stored = faultfs.run(fills_by_the_byte, tmp_path / "store", steps)
    assert 1 < len(stored) < len(steps)


async def fails_in_a_batch(folder: Path) -> list[str]:
    """Many units at once meet a full disk: each fails, and none of its events is ever told."""
    store, space = await opened(folder), Space.here()
    told: list[int] = []
    store.on_committed(lambda event: told.append(event.data["number"]))
    await store.commit([], [NewEvent(EventType.NODE_UP, {"number": -1})])
    space.free_bytes = 0
    waiting = [
        store.commit([entry(number)], [NewEvent(EventType.NODE_UP, {"number": number})])
        for number in range(50)
    ]
    errors = []
    for committed in waiting:
        with pytest.raises(StoreError) as failed:
            await committed
        errors.append(str(failed.value))
    space.free_bytes = Space.UNLIMITED
    await store.commit([], [NewEvent(EventType.NODE_UP, {"number": 99})])
    assert told == [-1, 99]
    assert [each.data["number"] for each in await store.read(events.since, 0, 100)] == [-1, 99]
    assert await store.read(inbox.open_entries) == []
    await store.close()
    return errors


def test_everybody_who_waits_for_a_full_disk_is_told(faultfs: FaultFs, tmp_path: Path) -> None:
    errors = faultfs.run(fails_in_a_batch, tmp_path / "store")
    assert [FULL in error for error in errors] == [True] * 50


async def closes_while_full(folder: Path) -> None:
    """The checkpoint of a close needs space, too."""
    store, space = await opened(folder), Space.here()
    space.free_bytes = 300_000
    acknowledged, _ = await write_until_full(store)
    await store.close()
    space.free_bytes = Space.UNLIMITED
    store = await opened(folder)
    assert await kept(store) == acknowledged
    await store.close()


def test_a_store_that_closes_on_a_full_disk_keeps_its_rows(
    faultfs: FaultFs, tmp_path: Path
) -> None:
    faultfs.run(closes_while_full, tmp_path / "store")


async def opens_while_full(folder: Path) -> str:
    store = await opened(folder)
    await store.commit([entry(1)])
    await store.close()
    space = Space.here()
    space.free_bytes = 0
    store = Store.on_file(folder / "swarm_hub.db", Clock())
    try:
        await store.open()
        said = "opened"
    except StoreError as error:
        said = str(error)
    await store.close()
    space.free_bytes = Space.UNLIMITED
    store = await opened(folder)
    assert len(await store.read(inbox.open_entries)) == 1
    await store.close()
    return said


def test_opening_on_a_full_disk_says_so_and_harms_nothing(faultfs: FaultFs, tmp_path: Path) -> None:
    said = faultfs.run(opens_while_full, tmp_path / "store")
    assert "swarm_hub.db: the database can't be opened" in said
    assert said.endswith("is writable and has free space")


async def puts_a_blob(folder: Path) -> None:
    store, space = await opened(folder), Space.here()
    body = random.Random(1).randbytes(10 * INLINE_MAX_BYTES)
    for free_bytes in (0, 1, INLINE_MAX_BYTES, len(body) - 1):
        space.free_bytes = free_bytes
        with pytest.raises(StoreFullError, match="no space left"):
            await store.blobs.put(body, 0.0)
        assert [path for path in (folder / "blobs").rglob("*") if path.is_file()] == []
        assert space.free_bytes == free_bytes, "the space of the cut file was not given back"
    space.free_bytes = len(body) + 100_000
    sha, row = await store.blobs.put(body, 0.0)
    await store.commit([row])
    assert await store.blobs.get(sha) == body
    await store.close()


def test_a_blob_that_does_not_fit_leaves_no_file(faultfs: FaultFs, tmp_path: Path) -> None:
    faultfs.run(puts_a_blob, tmp_path / "store")
    assert damaged_blobs(tmp_path / "store" / "swarm_hub.db") == []


async def asks_for_space(folder: Path) -> None:
    space = Space.here()
    real = shutil.disk_usage(folder).free
    space.free_bytes = 5 << 20
    assert shutil.disk_usage(folder).free == 5 << 20
    (folder / "file").write_bytes(bytes(1 << 20))
    assert shutil.disk_usage(folder).free == 4 << 20
    assert shutil.disk_usage(folder.parent).free >= real // 2
    (folder / "file").unlink()
    assert shutil.disk_usage(folder).free == 5 << 20
    with (folder / "reserve").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 5 << 20)
        with pytest.raises(OSError, match="No space left"):
            os.posix_fallocate(file.fileno(), 0, 6 << 20)
    assert shutil.disk_usage(folder).free == 0
    (folder / "reserve").unlink()
    assert shutil.disk_usage(folder).free == 5 << 20


def test_the_faulty_disk_tells_its_free_space(faultfs: FaultFs, tmp_path: Path) -> None:
    faultfs.run(asks_for_space, tmp_path / "store")


async def fills_a_tmpfs(folder: Path) -> dict[str, Any]:
    """As `fills_and_recovers`, with a file that somebody deletes to make room."""
    assert shutil.disk_usage(folder).total == TMPFS_BYTES
    store = await opened(folder)
    (folder / "ballast").write_bytes(bytes(TMPFS_BYTES // 2))
    acknowledged, error = await write_until_full(store)
    while_full = await kept(store)
    (folder / "ballast").unlink()
    for number in range(10_000, 10_010):
        await store.commit(
            [entry(number), replay_cache.remember(b"%d" % number, "p", b"", FOREVER)]
        )
    after = await kept(store)
    await store.close()
    store = await opened(folder)
    again = await kept(store)
    await store.close()
    return {
        "error": error,
        "acknowledged": acknowledged,
        "while_full": while_full,
        "after": after,
        "again": again,
    }


def test_a_real_full_file_system_is_like_the_faulty_disk(tmp_path: Path) -> None:
    """In a mount namespace of its own, which needs no rights where the kernel allows it.

    There is no way round: a machine that refuses fails here, and says what to allow. The tests
    above cover the store's own behaviour there.
    """
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    allowed = subprocess.run([*namespace, "true"], capture_output=True, text=True, check=False)
    assert allowed.returncode == 0, (
        f"{' '.join(namespace)} was refused ({allowed.stderr.strip()}); this test needs "
        "unprivileged user namespaces: sysctl user.max_user_namespaces above 0 and, where they "
        "exist, kernel.unprivileged_userns_clone=1 and "
        "kernel.apparmor_restrict_unprivileged_userns=0; in a container, CAP_SYS_ADMIN"
    )
    mount = f'mount -t tmpfs -o size={TMPFS_BYTES} tmpfs "$0" && exec "$@"'
    launcher = [*namespace, "sh", "-c", mount, str(tmp_path)]
    assert_kept_and_recovered(run(fills_a_tmpfs, tmp_path, launcher=launcher))
