"""The free space's floor: who is told of it, and what a disk that fails altogether does to that."""

import threading
from pathlib import Path

import pytest

from swarm_hub.exceptions import StoreFullError
from swarm_hub.storage import Store, StoreSpace
from swarm_hub.storage.engine.space import SpaceGuard
from swarm_hub.util.clock import Clock

MORE_THAN_ANY_DISK = 1 << 60
MIB = 1024 * 1024


async def test_listeners_are_told_on_the_loop(tmp_path: Path) -> None:
    """They post messages and wake tasks, which only the loop's own thread may do."""
    told: list[tuple[threading.Thread, str | None]] = []
    store = Store.on_file(tmp_path / "swarm_hub.db", Clock(), MORE_THAN_ANY_DISK)
    await store.open()
    store.on_space(lambda space: told.append((threading.current_thread(), space.full)))
    await store.look_at_space()
    await store.look_at_space()
    await store.close()
    assert told == [(threading.main_thread(), store.full)]
    assert store.full is not None


async def test_room_for_the_reserve_ends_the_shortage(tmp_path: Path) -> None:
    told: list[str | None] = []
    guard = SpaceGuard(tmp_path / "swarm_hub.db", 0)
    guard.on_change(lambda space: told.append(space.full))
    guard.trip(StoreFullError("/home/ada/hub/swarm_hub.db: no space left on the disk"))
    await guard.look()
    assert told == ["no space left on the disk; free some space", None]
    assert (tmp_path / "swarm_hub.db.reserve").exists()


def test_a_reserve_that_can_not_be_given_up_keeps_nobody_from_being_told(tmp_path: Path) -> None:
    """The writer itself calls this, and must outlive a disk that has become read-only."""
    (tmp_path / "swarm_hub.db.reserve").mkdir()
    told: list[StoreSpace] = []
    guard = SpaceGuard(tmp_path / "swarm_hub.db", 0)
    guard.on_change(told.append)
    guard.trip(StoreFullError("no space left on the disk"))
    assert told == [StoreSpace("no space left on the disk; free some space")]


async def test_below_the_floor_space_is_spent_only_near_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[bool, bool]] = []
    guard = SpaceGuard(tmp_path / "swarm_hub.db", 64 * MIB)
    guard.on_change(lambda space: told.append((space.full is not None, space.spent)))
    for free_bytes in (63 * MIB, 60 * MIB, 3 * MIB, 9 * MIB, 200 * MIB):
        monkeypatch.setattr(guard, "_free_bytes", lambda free_bytes=free_bytes: free_bytes)
        await guard.look()
    assert told == [(True, False), (True, True), (True, False), (False, False)]
