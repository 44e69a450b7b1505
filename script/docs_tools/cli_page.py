"""The page of the command line, made from the commands themselves."""

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

_WIDTH: Final = 100
# An option that so many commands have is described once.
_SHARED_BY: Final = 5
_HEAD: Final = """\
# Command line

<!-- Made by `script/docs pages` from the commands; what is written here by hand is lost. -->

Everything that `swarm-hub` can be told, as `--help` says it. [The user guide](user-guide.md) says
what for. Results go to stdout, progress and messages to stderr.

## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | the job, the check or the request failed, or items are left out of the result |
| 2 | wrong usage |
| 3 | no hub answers, or none runs on the directory |
| 4 | not allowed: no token, an unknown one, or the wrong scope; `join`: not admitted |
| 130 | interrupted; `run`: told to stop before the hub was ready, afterwards it is 0 |
"""


@dataclass(frozen=True, slots=True)
class _Row:
    """One option, as its row says it."""

    names: tuple[str, ...]
    value: str
    default: str
    variable: str
    help: str

    @property
    def markdown(self) -> str:
        """The row of a table."""
        option = ", ".join(self.names) + (f" {self.value}" if self.value else "")
        default = f" Default: `{_cell(self.default)}`." if self.default else ""
        variable = f" Variable: `{self.variable}`." if self.variable else ""
        said = _cell(self.help).replace("<", "&lt;")
        return f"| `{_cell(option)}` | {said}{default}{variable} |"


def cli_page(main: click.Group) -> str:
    """Return the page of a command line."""
    commands = list(_walk(main, (), click.Context(main, info_name="swarm-hub")))
    counted = Counter(row for _, command, ctx in commands for row in _rows(command, ctx))
    shared = [row for row, times in counted.items() if times >= _SHARED_BY]
    parts = [
        _HEAD,
        "## Options of many commands\n",
        _table(shared),
        "Every command has `-h` and `--help`; `swarm-hub --version` prints the version.\n",
    ]
    for path, command, ctx in commands:
        parts += _section(path, command, ctx, shared)
    return "\n".join(parts)


def _walk(
    group: click.Group, path: tuple[str, ...], parent: click.Context
) -> Iterator[tuple[tuple[str, ...], click.Command, click.Context]]:
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        if command is None or command.hidden:
            continue
        ctx = click.Context(command, parent=parent, info_name=name)
        yield (*path, name), command, ctx
        if isinstance(command, click.Group):
            yield from _walk(command, (*path, name), ctx)


def _section(
    path: Sequence[str], command: click.Command, ctx: click.Context, shared: Sequence[_Row]
) -> Iterator[str]:
    yield f"{'#' * (len(path) + 1)} {' '.join(path)}\n"
    usage = " ".join(command.collect_usage_pieces(ctx))
    yield f"```text\nswarm-hub {' '.join(path)} {usage}".rstrip() + "\n```\n"
    if help_text := _prose(command.help):
        yield help_text
    rows = _rows(command, ctx)
    if own := [row for row in rows if row not in shared]:
        yield _table(own)
    if others := [row.names for row in rows if row in shared]:
        listed = ", ".join(f"`{names[-1]}`" for names in others)
        yield _wrapped(f"Also {listed}: see [above](#options-of-many-commands).")
    if epilog := _prose(command.epilog):
        yield epilog


def _rows(command: click.Command, ctx: click.Context) -> list[_Row]:
    return [
        _row(option, ctx)
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden
    ]


def _row(option: click.Option, ctx: click.Context) -> _Row:
    flag = option.is_flag or option.count
    names = (*option.opts, *option.secondary_opts)
    value = "" if flag else _value(option, ctx)
    variable = option.envvar if isinstance(option.envvar, str) else ""
    return _Row(names, value, _default(option, ctx), variable, option.help or "")


def _value(option: click.Option, ctx: click.Context) -> str:
    kind = option.type
    if option.metavar is None and isinstance(kind, click.IntRange | click.FloatRange):
        least, most = kind.min, kind.max
        return "N" if most is None else f"{'' if least is None else least} to {most}"
    return option.make_metavar(ctx)


def _default(option: click.Option, ctx: click.Context) -> str:
    if isinstance(option.show_default, str):
        return option.show_default
    default: Any = option.get_default(ctx, call=False)
    if option.is_flag or option.count or option.multiple or callable(default):
        return ""
    # What has none is a sentinel in click, and differs by its version.
    return str(default) if isinstance(default, (str, int, float)) else ""


def _table(rows: Sequence[_Row]) -> str:
    head = "| option | meaning |\n|---|---|\n"
    return head + "\n".join(row.markdown for row in rows) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _prose(text: str | None) -> str:
    """Return a help text as Markdown; what click leaves as it is (`\\b`) is shown as such."""
    paragraphs = []
    for paragraph in (text or "").replace("\f", "").strip().split("\n\n"):
        first, _, rest = paragraph.partition("\n")
        if first.strip() == "\b":
            paragraphs.append(f"```text\n{textwrap.dedent(rest)}\n```\n")
        elif paragraph.strip():
            paragraphs.append(_wrapped(paragraph))
    return "\n".join(paragraphs)


def _wrapped(text: str) -> str:
    lines = textwrap.wrap(
        " ".join(text.split()), _WIDTH, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines) + "\n"
