"""The window for bulk keeps the queue on a link short, whatever its rate."""

import heapq
import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub.components.mesh.wire.flow_control import (
    CREDIT_STEP_BYTES,
    WINDOW_MAX_BYTES,
    WINDOW_MIN_BYTES,
    BulkWindow,
    Credits,
)

CHUNK = 64_500


@dataclass
class Measured:
    rate: float
    worst_queue_s: float
    mean_queue_s: float


def over_link(bytes_per_s: float, latency_s: float, transfer_bytes: int) -> Measured:
    """Send bulk over a link that carries a byte after the other, and watch its queue."""
    window, receiver = BulkWindow(), Credits()
    now, free_at, sent = 0.0, 0.0, 0
    queues: list[float] = []
    events: list[tuple[float, int, int]] = []
    while receiver.taken_bytes < transfer_bytes:
        while sent < transfer_bytes and window.has_room(CHUNK):
            window.sent(CHUNK, now, bulk=True)
            sent += CHUNK
            free_at = max(free_at, now) + CHUNK / bytes_per_s
            heapq.heappush(events, (free_at + latency_s, 0, CHUNK))
            # The first second is the search for the rate.
            if now > 1.0:
                queues.append(free_at - now)
        now, kind, amount = heapq.heappop(events)
        if kind == 1:
            window.credited(amount, now)
        elif (total := receiver.take(amount)) is not None:
            heapq.heappush(events, (now + latency_s, 1, total))
    return Measured(transfer_bytes / now, max(queues, default=0.0), sum(queues) / len(queues))


@pytest.mark.parametrize("mb_per_s", [0.6, 1, 3, 8])
@pytest.mark.parametrize("latency_s", [0.001, 0.02])
def test_bulk_delays_what_is_urgent_by_less_than_a_quarter_second(
    mb_per_s: float, latency_s: float
) -> None:
    measured = over_link(mb_per_s * 1e6, latency_s, int(mb_per_s * 20e6))
    assert measured.worst_queue_s < 0.25
    # And the link is used.
    assert measured.rate > 0.75 * mb_per_s * 1e6


def test_a_long_way_does_not_starve_bulk() -> None:
    measured = over_link(8e6, 0.15, 40_000_000)
    # One window of 768 KiB a round trip of 0.3 s.
    assert measured.rate > 1.5e6


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10**7)), max_size=200))
def test_whatever_the_peer_says_no_more_than_a_window_is_under_way(
    steps: list[tuple[bool, int]],
) -> None:
    window, now = BulkWindow(), 0.0
    for is_credit, amount in steps:
        now += 0.01
        if is_credit:
            window.credited(amount, now)
        while window.has_room(CHUNK):
            window.sent(CHUNK, now, bulk=True)
        assert 0 <= window.under_way_bytes <= WINDOW_MAX_BYTES


def test_control_messages_count_but_a_full_window_holds_only_bulk_back() -> None:
    window = BulkWindow()
    window.sent(WINDOW_MAX_BYTES, 0.0, bulk=False)
    assert not window.has_room(1)
    window.credited(WINDOW_MAX_BYTES, 0.1)
    assert window.has_room(WINDOW_MIN_BYTES)


def test_credit_is_told_in_steps_and_always_in_time() -> None:
    receiver, told = Credits(), 0
    generator = random.Random(1)
    for _ in range(1000):
        if (total := receiver.take(generator.randrange(1, 9000))) is not None:
            told = total
        assert receiver.taken_bytes - told < CREDIT_STEP_BYTES
