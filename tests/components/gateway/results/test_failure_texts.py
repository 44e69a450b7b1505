"""A failure in one line, which says each thing once and is never long."""

import pytest

from swarm_hub.components.gateway.results.failure_texts import (
    LINE_MAX_CHARS,
    Failing,
    line,
    names_of,
    reason,
)

KNOWN = {"12D3KooWaaaaaaaa": "kitchen", "12D3KooWbbbbbbbb": "cellar"}


def told(names: tuple[str, ...], text: str = "exit: 3: no", place: str | None = None) -> str:
    return line(Failing(17, 1, place, text, names))


@pytest.mark.parametrize(
    ("names", "on"),
    [
        ((), ""),
        (("kitchen",), "; on kitchen"),
        (("kitchen", "cellar", "attic"), "; on kitchen, cellar and attic"),
        (("a", "b", "c", "d"), "; on a, b, c and d"),
        (("a", "b", "c", "d", "e", "f", "g"), "; on a, b, c and 4 others"),
    ],
)
def test_it_names_a_few_nodes_and_counts_the_others(names: tuple[str, ...], on: str) -> None:
    assert told(names) == f"item 17: exit 3: no{on}"


def test_it_says_where_the_items_are() -> None:
    assert told((), place="prices.csv:18") == "item 17 (prices.csv:18): exit 3: no"
    several = Failing(12, 8, "prices.csv:13-20", "fuel: all used", ())
    assert line(several) == "items 12 to 19 (prices.csv:13-20): fuel: all used"


@pytest.mark.parametrize(
    ("text", "short"),
    [
        (
            "trap: unreachable at map: The module gave up\nerror while executing at wasm "
            "backtrace:\n    0:   0x3a - <unknown>!map\n",
            "trap: unreachable at map: The module gave up",
        ),
        (
            'exit: 1: Traceback (most recent call last):\n  File "a.py", line 1\nValueError: no\n',
            "exit 1: Traceback (most recent call last): … ValueError: no",
        ),
        ("exit: 2: \n\nonly this\n", "exit 2: … only this"),
        ("exit: invalid: The module", "exit: invalid: The module"),
        ("output: more than 5\n", "output: more than 5"),
        ("", ""),
    ],
)
def test_a_reason_is_its_first_and_its_last_line(text: str, short: str) -> None:
    assert reason(text) == short


def test_nothing_makes_it_long() -> None:
    assert len(told(("x" * 300,) * 4, "y" * 5000, "z" * 600)) == LINE_MAX_CHARS


def test_a_node_without_a_name_is_called_by_the_end_of_its_id() -> None:
    ids = ("12D3KooWaaaaaaaa", "12D3KooWcccccccc")
    assert names_of(ids, KNOWN) == ("kitchen", "cccccccc")


def test_nodes_of_one_name_are_told_apart() -> None:
    known = KNOWN | {"12D3KooWcccccccc": "kitchen"}
    assert names_of(("12D3KooWaaaaaaaa", "12D3KooWbbbbbbbb", "12D3KooWcccccccc"), known) == (
        "kitchen (aaaaaaaa)", "cellar", "kitchen (cccccccc)",
    )  # fmt: skip
