"""How failures are told to people, each in one line; pure."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

LINE_MAX_CHARS: Final = 1000
_REASON_MAX_CHARS: Final = 500
_NODES_MAX: Final = 4
_ID_CHARS: Final = 8
_EXIT: Final = re.compile(r"exit: (\d+): ")
# What follows is for whoever looks at each attempt.
_BACKTRACE: Final = "wasm backtrace:"


@dataclass(frozen=True, slots=True)
class Failing:
    """Items on which the module failed: where a user finds them, with which text, and on whom.

    `place` is None where there is nothing better than the numbers of the items.
    """

    first_item: int
    n_items: int
    place: str | None
    text: str
    nodes: tuple[str, ...]


def line(failing: Failing) -> str:
    """Return all that is known of a failure, such as `item 17 (a.csv:18): exit 3: no; on attic`."""
    place = "" if failing.place is None else f" ({failing.place})"
    items = items_of(failing.first_item, failing.n_items)
    told = f"{items}{place}: {reason(failing.text)}"
    if failing.nodes:
        told += f"; on {_listed(failing.nodes)}"
    return told[:LINE_MAX_CHARS]


def items_of(first_item: int, n_items: int) -> str:
    """Return the numbers of items, which count from 0."""
    if n_items == 1:
        return f"item {first_item}"
    return f"items {first_item} to {first_item + n_items - 1}"


def reason(text: str) -> str:
    """Return the reason of a failure in one line: the first line of its text, and the last one.

    A trap is told without its backtrace.
    """
    lines = []
    for each in map(str.strip, _EXIT.sub(r"exit \1: ", text, count=1).splitlines()):
        if _BACKTRACE in each:
            break
        if each:
            lines.append(each)
    told = " … ".join(dict.fromkeys((*lines[:1], *lines[-1:])))
    return told if len(told) <= _REASON_MAX_CHARS else f"{told[:_REASON_MAX_CHARS]}…"


def names_of(node_ids: Sequence[str], known: Mapping[str, str]) -> tuple[str, ...]:
    """Return what nodes are called; one without a name, or with that of another, has its id too."""
    names = {node_id: known.get(node_id, "") for node_id in node_ids}
    times = Counter(names.values())
    return tuple(
        _with_id(name, node_id) if not name or times[name] > 1 else name
        for node_id, name in names.items()
    )


def _with_id(name: str, node_id: str) -> str:
    short = node_id[-_ID_CHARS:]
    return f"{name} ({short})" if name else short


def _listed(names: Sequence[str]) -> str:
    shown = list(names)
    if len(shown) > _NODES_MAX:
        more = len(shown) - _NODES_MAX + 1
        shown = [*shown[: _NODES_MAX - 1], f"{more} others"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
