"""The choice of a child: free slots first, queues only behind fast shards."""

from dataclasses import dataclass

import pytest

from swarm_hub.components.sandbox.placement import DEPTH_MAX, SMALL_BYTES, choose


@dataclass
class Lane:
    name: str
    idle: bool = False
    takes_runs: bool = False
    queued: int = 0
    mean_s: float | None = None
    pipelining: bool = True
    loaded: bool = True
    scope: str | None = "own"

    def has(self, key: str) -> bool:
        return self.loaded


def idle(name: str, *, loaded: bool = True, scope: str | None = "own") -> Lane:
    return Lane(name, idle=True, loaded=loaded, scope=scope)


def fast(name: str, queued: int = 1, **changed: object) -> Lane:
    lane = Lane(name, takes_runs=True, queued=queued, mean_s=0.0002)
    for field, value in changed.items():
        setattr(lane, field, value)
    return lane


@pytest.mark.parametrize(
    ("lanes", "expected"),
    [
        ([], None),
        ([idle("a")], "a"),
        ([idle("a", loaded=False), idle("b")], "b"),
        ([idle("a", loaded=False), idle("b", loaded=False)], "a"),
        ([fast("a"), idle("b", loaded=False)], "b"),
        ([fast("a"), fast("b")], "a"),
        ([fast("a", 3), fast("b", 2)], "b"),
        ([fast("a", DEPTH_MAX), fast("b", DEPTH_MAX)], None),
        ([fast("a", mean_s=0.01), fast("b", mean_s=None)], None),
        ([fast("a", loaded=False), fast("b", pipelining=False)], None),
        ([idle("a", scope="another")], None),
        ([idle("a", scope="another"), idle("b", scope=None)], "b"),
        ([idle("a", scope=None), idle("b", loaded=False)], "b"),
        ([fast("a", scope="another"), fast("b", 5)], "b"),
        ([fast("a", scope="another"), fast("b", scope=None)], None),
    ],
)
def test_two_slots(lanes: list[Lane], expected: str | None) -> None:
    chosen = choose(lanes, "key", 10, 2, "own")
    assert (chosen.name if chosen else None) == expected


def test_an_idle_child_beyond_the_slots_is_not_used() -> None:
    lanes = [fast("a", mean_s=1.0), fast("b", mean_s=1.0), idle("spare")]
    assert choose(lanes, "key", 10, 2, "own") is None


def test_of_more_children_than_there_are_slots_now_none_gets_more() -> None:
    lanes = [fast("a"), fast("b")]
    assert choose(lanes, "key", 10, 1, "own") is None
    lanes[1].takes_runs = False
    assert choose(lanes, "key", 10, 1, "own") is lanes[0]


def test_an_inspection_takes_no_slot() -> None:
    inspecting = Lane("a", queued=1)
    chosen = choose([inspecting, idle("b")], "key", 10, 1, "own")
    assert chosen is not None
    assert chosen.name == "b"


def test_a_large_input_is_not_queued_behind_another_shard() -> None:
    assert choose([fast("a")], "key", SMALL_BYTES + 1, 1, "own") is None
