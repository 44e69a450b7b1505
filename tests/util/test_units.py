"""Sizes and durations as people write them."""

import pytest

from swarm_hub.util.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (65536, 65536),
        ("128MiB", 128 * 2**20),
        ("1.5 GB", 1_500_000_000),
        ("10", 10),
        ("3kib", 3072),
    ],
)
def test_sizes(text: int | str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(300, 300.0), ("24h", 86400.0), ("1.5s", 1.5), ("250 ms", 0.25), (0.5, 0.5)],
)
def test_durations(text: float | str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("value", ["", "MiB", "-1", "1 XB", True, None, -5, [], "1e9"])
def test_no_size(value: object) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["", "h", "-1", "1 week", True, None, -5, float("nan")])
def test_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(value)  # type: ignore[arg-type]


def test_sizes_are_shown_in_the_largest_fitting_unit() -> None:
    shown = [format_size(size) for size in (0, 1023, 1024, 5 * 2**20, 3 * 2**30)]
    assert shown == ["0 B", "1023 B", "1.0 KiB", "5.0 MiB", "3.0 GiB"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"), (0.44, "0.4 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min"),
        (200, "3 min 20 s"), (3600, "1 h"), (7500, "2 h 5 min"), (86_399.9, "1 d"),
        (200_000, "2 d 7 h"), (1e9, "11574 d 1 h"),
    ],
)  # fmt: skip
def test_durations_are_written_in_their_two_largest_units(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown
