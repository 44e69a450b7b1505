"""A shard of which the hub dies is given up after three deaths in a row; its neighbours are not."""

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.components.worker.alone import AloneOrTogether
from swarm_hub.components.worker.deaths import DEATHS_FILE, RUNNING_FILE, Deaths, count
from tests.conftest import until

ALL = ("job.1.1", "job.2.1", "job.3.1")


def born(folder: Path) -> Deaths:
    """Begin a life, after the death of the one before."""
    deaths = Deaths(folder, lambda write: write())
    deaths.load()
    return deaths


def life(folder: Path, *begins: str, ended: tuple[str, ...] = ()) -> Deaths:
    """Live once: begin these, and die."""
    deaths = born(folder)
    for each in begins:
        deaths.begun(each)
    for each in ended:
        deaths.ended(each)
    return deaths


def given_up(deaths: Deaths) -> list[str]:
    return [each for each in ALL if deaths.is_given_up(each)]


def alone(deaths: Deaths) -> list[str]:
    return [each for each in ALL if deaths.runs_alone(each)]


def test_what_runs_at_three_deaths_in_a_row_is_given_up(tmp_path: Path) -> None:
    for number in range(3):
        deaths = born(tmp_path)
        assert given_up(deaths) == []
        # From the second death on, alone.
        assert deaths.runs_alone("job.1.1") == (number >= 2)
        deaths.begun("job.1.1")
    assert given_up(born(tmp_path)) == ["job.1.1"]
    # And so it stays, in later lives too.
    assert given_up(born(tmp_path)) == ["job.1.1"]


def test_another_attempt_at_the_same_shard_is_the_same(tmp_path: Path) -> None:
    for attempt in range(1, 4):
        life(tmp_path, f"job.1.{attempt}")
    assert born(tmp_path).is_given_up("job.1.4")


def test_what_waits_or_has_ended_at_a_death_is_not_counted(tmp_path: Path) -> None:
    for _ in range(4):
        life(tmp_path, "job.1.1", "job.2.1", ended=("job.1.1", "job.2.1"))
    assert alone(born(tmp_path)) == []


def test_different_shards_at_each_death_are_not_given_up(tmp_path: Path) -> None:
    for each in (*ALL, *ALL):
        life(tmp_path, each)
    deaths = born(tmp_path)
    assert (given_up(deaths), alone(deaths)) == ([], [])


def test_neighbours_of_a_shard_of_which_the_hub_dies_go_free(tmp_path: Path) -> None:
    life(tmp_path, *ALL)
    life(tmp_path, *ALL)
    deaths = born(tmp_path)
    assert (given_up(deaths), alone(deaths)) == ([], list(ALL))
    # The first that runs alone is the one.
    deaths.begun("job.2.1")
    deaths = born(tmp_path)
    assert given_up(deaths) == alone(deaths) == ["job.2.1"]


def test_one_that_ran_to_its_end_is_cleared(tmp_path: Path) -> None:
    life(tmp_path, "job.1.1")
    deaths = life(tmp_path, "job.1.1")
    deaths.survived("job.1.1")
    deaths.ended("job.1.1")
    life(tmp_path, "job.1.1")
    assert alone(born(tmp_path)) == []


def test_a_life_that_ends_before_anything_ran_says_nothing(tmp_path: Path) -> None:
    for begins in (["job.1.1"], [], ["job.1.1"], [], ["job.1.1"]):
        life(tmp_path, *begins)
    assert given_up(born(tmp_path)) == ["job.1.1"]


def test_a_hub_that_stops_in_order_has_not_died(tmp_path: Path) -> None:
    for _ in range(4):
        life(tmp_path, "job.1.1").close()
    assert alone(born(tmp_path)) == []


def test_what_begins_and_ends_in_one_turn_of_the_loop_is_one_write(tmp_path: Path) -> None:
    soon: list[Callable[[], None]] = []
    deaths = Deaths(tmp_path, soon.append)
    deaths.load()
    deaths.begun("job.1.1")
    deaths.begun("job.2.1")
    deaths.ended("job.1.1")
    deaths.begun("job.3.1")
    assert len(soon) == 1
    assert (tmp_path / RUNNING_FILE).read_bytes() == b""
    soon.pop()()
    assert (tmp_path / RUNNING_FILE).read_bytes().replace(b"\0", b" ").split() == [
        b"job.3.1", b"job.2.1",
    ]  # fmt: skip
    deaths.ended("job.2.1")
    assert len(soon) == 1


def test_files_that_a_power_cut_spoiled_harm_nobody(tmp_path: Path) -> None:
    life(tmp_path, "job.1.1")
    (tmp_path / DEATHS_FILE).write_bytes(b"\0\0\0")
    (tmp_path / RUNNING_FILE).write_bytes(b"\xff" * 700)
    assert alone(born(tmp_path)) == []


@given(st.lists(st.sets(st.sampled_from(ALL)), max_size=8))
def test_only_what_ran_at_each_of_the_last_deaths_is_counted(lives: list[set[str]]) -> None:
    counts: dict[str, int] = {}
    for ran in lives:
        counts = count(counts, ran)
    telling = [ran for ran in lives if ran]
    for each in ALL:
        present = [each in ran for ran in reversed(telling)]
        assert counts.get(each, 0) == len(list(itertools.takewhile(bool, present)))


async def test_whoever_is_alone_has_nothing_beside_it() -> None:
    company = AloneOrTogether()
    inside: list[str] = []
    seen: list[list[str]] = []
    leave = {name: asyncio.Event() for name in "abc"}

    async def together(name: str) -> None:
        await company.enter()
        inside.append(name)
        await leave[name].wait()
        inside.remove(name)
        company.leave()

    async def by_itself() -> None:
        async with company.alone():
            inside.append("alone")
            seen.append(list(inside))
            await leave["c"].wait()
            inside.remove("alone")

    async def now() -> list[str]:
        return sorted(inside)

    async with asyncio.TaskGroup() as group:
        group.create_task(together("a"))
        await until(now, lambda found: found == ["a"])
        group.create_task(by_itself())
        group.create_task(together("b"))
        leave["a"].set()
        await until(now, lambda found: found == ["alone"])
        leave["c"].set()
        await until(now, lambda found: found == ["b"])
        leave["b"].set()
    assert seen == [["alone"]]


async def test_one_that_gives_up_waiting_to_be_alone_holds_nobody_up() -> None:
    company = AloneOrTogether()

    async def by_itself() -> None:
        async with company.alone():
            pytest.fail("something runs beside it")

    await company.enter()
    waiting = asyncio.create_task(by_itself())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    async with asyncio.timeout(30):
        await company.enter()
