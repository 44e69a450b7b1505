"""Shards wait in turns of their scopes: in order within one, and nobody waits for long."""

import asyncio
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.components.worker.turns import TURN_S, TurnQueue, Turns


def filled(*shards: str) -> Turns[str]:
    turns: Turns[str] = Turns()
    for shard in shards:
        turns.put(shard[0], shard)
    return turns


def test_one_scope_is_a_queue() -> None:
    turns = filled("a1", "a2", "a3")
    assert [turns.take(10.0 * number) for number in range(3)] == ["a1", "a2", "a3"]
    with pytest.raises(KeyError):
        turns.take(40.0)


def test_a_scope_has_its_turn_until_it_has_no_more_shards() -> None:
    turns = filled("a1", "b1", "a2", "b2", "c1", "a3")
    assert [turns.take(0.0) for _ in range(6)] == ["a1", "a2", "a3", "b1", "b2", "c1"]


def test_a_turn_ends_after_two_seconds_when_another_scope_waits() -> None:
    turns = filled("a1", "a2", "a3", "b1", "b2", "b3")
    taken = [turns.take(at_s) for at_s in (0.0, 1.9, 2.1, 4.0, 4.2, 4.3)]
    assert taken == ["a1", "a2", "b1", "b2", "a3", "b3"]


def test_a_turn_begins_with_its_first_shard() -> None:
    turns = filled("a1")
    assert turns.take(0.0) == "a1"
    for shard in ("b1", "b2", "c1"):
        turns.put(shard[0], shard)
    assert [turns.take(100.0), turns.take(101.0), turns.take(101.0)] == ["b1", "b2", "c1"]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 1)), max_size=60))
def test_nothing_is_lost_and_each_scope_keeps_its_order(arrivals: list[tuple[str, float]]) -> None:
    turns: Turns[tuple[str, int]] = Turns()
    for number, (scope, _) in enumerate(arrivals):
        turns.put(scope, (scope, number))
    now_s, taken = 0.0, []
    for _, pause_s in arrivals:
        taken.append(turns.take(now_s))
        now_s += pause_s
    assert len(turns) == 0
    assert sorted(number for _, number in taken) == list(range(len(arrivals)))
    for scope in "abcd":
        own = [number for each, number in taken if each == scope]
        assert own == sorted(own)


def test_with_many_scopes_each_is_served_within_a_turn_of_every_other() -> None:
    turns = filled(*[f"{scope}{number}" for number in range(100) for scope in "abc"])
    taken = [turns.take(0.1 * number)[0] for number in range(300)]
    runs = [(scope, len(list(run))) for scope, run in groupby(taken)]
    assert [scope for scope, _ in runs[:6]] == list("abcabc")
    assert max(length for _, length in runs) <= TURN_S / 0.1 + 1


async def test_the_queue_wakes_who_waits_and_can_be_emptied() -> None:
    queue: TurnQueue[str] = TurnQueue(lambda shard: shard[0], lambda: 0.0)
    waiting = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    for shard in ("a1", "b1", "a2"):
        queue.put_nowait(shard)
    assert await waiting == "a1"
    assert [queue.get_nowait(), queue.get_nowait()] == ["a2", "b1"]
    assert queue.empty()
