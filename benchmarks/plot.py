"""A plot as SVG text: for each group a mark of every series, with its spread, on a log scale."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

_WIDTH: Final = 760
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 64, 64
_PLOT_HEIGHT: Final = 300
_GRID: Final = (1, 1.2, 1.5, 2, 3, 5, 10, 20, 50, 100, 200)
# Lines that are nearer to each other would have overlapping numbers.
_GRID_GAP: Final = 15
_NONE: Final = "given up"
# Readable on white and on black, and apart for the colour-blind; shapes differ as well.
_COLOURS: Final = ("#2b83d6", "#d9730d", "#8a63d2", "#3a9a5b")
_STYLE: Final = """
text { font: 13px system-ui, sans-serif; fill: #333 }
.title { font-size: 15px; font-weight: 600 }
.grid { stroke: #8884 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } }
"""


@dataclass(frozen=True, slots=True)
class Spread:
    """What one series has in one group; without values it is named as one that has none."""

    group: str
    series: str
    values: tuple[float, ...]


def log_plot(title: str, x_label: str, y_label: str, spreads: Sequence[Spread]) -> str:
    """Draw the means as marks and the lows and highs as lines."""
    groups = list(dict.fromkeys(each.group for each in spreads))
    series = list(dict.fromkeys(each.series for each in spreads))
    everything = [value for each in spreads for value in each.values]
    top = next(value for value in _GRID if value >= max(everything))
    bottom = min(1.0, *everything)

    def y(value: float) -> float:
        part = math.log(value / bottom) / math.log(top / bottom)
        return round(_TOP + _PLOT_HEIGHT * (1 - part), 1)

    grid: list[float] = []
    for value in _GRID:
        if bottom <= value <= top and (not grid or y(grid[-1]) - y(value) >= _GRID_GAP):
            grid.append(value)
    group_width = (_WIDTH - _LEFT - _RIGHT) / len(groups)
    height = _TOP + _PLOT_HEIGHT + _BOTTOM
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'role="img" aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        _text(_LEFT, 22, title, anchor="start", of="title"),
        *_legend(series),
    ]
    lines += [
        f'<path class="grid" d="M{_LEFT} {y(value)}H{_WIDTH - _RIGHT}"/>'
        + _text(_LEFT - 8, y(value) + 4, f"{value:g}", anchor="end")
        for value in grid
    ]
    for number, group in enumerate(groups):
        middle = _LEFT + group_width * (number + 0.5)
        lines.append(_text(middle, _TOP + _PLOT_HEIGHT + 22, group))
        for each in (each for each in spreads if each.group == group):
            place = series.index(each.series)
            x = round(middle + (place - (len(series) - 1) / 2) * group_width / (len(series) + 1), 1)
            if not each.values:
                lines.append(
                    _mark(place, x, y(bottom) - 8) + _upright(x + 4, y(bottom) - 46, _NONE)
                )
                continue
            mean = sum(each.values) / len(each.values)
            line = f"M{x} {y(min(each.values))}V{y(max(each.values))}"
            lines.append(
                f'<path d="{line}" stroke="{_COLOURS[place]}" stroke-width="2"/>'
                + _mark(place, x, y(mean))
                + _text(x + 8, y(mean) + 4, f"{mean:.2f}", anchor="start")
            )
    lines += [
        _text((_LEFT + _WIDTH - _RIGHT) / 2, height - 14, x_label),
        _upright(16, _TOP + _PLOT_HEIGHT / 2, y_label),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _legend(series: Sequence[str]) -> list[str]:
    return [
        _mark(place, _LEFT + 6 + 130 * place, 42)
        + _text(_LEFT + 18 + 130 * place, 46, name, anchor="start")
        for place, name in enumerate(series)
    ]


def _mark(place: int, x: float, y: float) -> str:
    colour = _COLOURS[place]
    if place == 0:
        return f'<circle cx="{x}" cy="{y}" r="5" fill="{colour}"/>'
    if place == 1:
        return f'<rect x="{x - 4.5}" y="{y - 4.5}" width="9" height="9" fill="{colour}"/>'
    return f'<path d="M{x - 6} {y + 5}h12l-6 -11z" fill="{colour}"/>'


def _upright(x: float, y: float, text: str) -> str:
    return f'<g transform="translate({x:g} {y:g}) rotate(-90)">{_text(0, 0, text)}</g>'


def _text(x: float, y: float, text: str, *, anchor: str = "middle", of: str = "label") -> str:
    place = f'x="{round(x, 1)}" y="{round(y, 1)}" text-anchor="{anchor}"'
    return f'<text class="{of}" {place}>{escape(text)}</text>'
