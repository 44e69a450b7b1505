"""What a benchmark makes of its rounds, and of the machine beside it."""

import os
import subprocess
import sys
import time
from pathlib import Path

from machine import Look, foreign_cores, look, sync_ms, tree_cpu_s
from rounds import Spread, WarmUp, is_warm, measured, spread, warm_up


def test_rounds_have_a_median_and_a_range() -> None:
    assert spread([3.0, 1.0, 9.0, 2.0]) == Spread(2.5, 1.0, 9.0, 4)


def test_two_rounds_in_a_row_that_are_alike_are_warm() -> None:
    assert not is_warm([10.0])
    assert not is_warm([10.0, 10.0, 12.0])
    assert is_warm([30.0, 10.0, 10.4])


async def test_what_never_becomes_warm_is_measured_all_the_same() -> None:
    values = iter(range(1, 1000))

    async def doubles() -> float:
        return float(2 ** next(values))

    assert await warm_up(doubles) == WarmUp(12, False)
    assert await measured(doubles, 3) == Spread(2**14, 2**13, 2**15, 3)


async def test_a_warm_up_ends_when_it_is_warm() -> None:
    values = iter([9.0, 5.0, 4.9, 1.0])

    async def given() -> float:
        return next(values)

    assert await warm_up(given) == WarmUp(3, True)
    assert next(values) == 1.0


def test_the_cpu_of_children_that_ended_is_of_the_tree() -> None:
    before = tree_cpu_s([os.getpid()])
    code = "import time\nwhile time.process_time() < 0.2: pass"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert tree_cpu_s([os.getpid()]) - before >= 0.15


def test_foreign_load_is_what_was_busy_without_the_own_tree() -> None:
    assert foreign_cores(Look(10.0, 100.0, 7.0), Look(12.0, 105.0, 10.0)) == 1.0
    assert foreign_cores(Look(10.0, 100.0, 7.0), Look(12.0, 103.0, 10.02)) == 0.0


def test_a_look_sees_own_work_as_busy() -> None:
    before, end_s = look(), time.process_time() + 0.2
    while time.process_time() < end_s:
        pass
    after = look()
    assert after.own_s - before.own_s >= 0.15
    assert after.busy_s - before.busy_s >= 0.15


def test_a_sync_takes_time(tmp_path: Path) -> None:
    assert sync_ms(tmp_path) > 0
