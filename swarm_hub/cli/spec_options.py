"""The options of `submit` that say how a job is to run, and the spec that they make."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click

from swarm_hub.cli.options import pairs, seconds
from swarm_hub.exceptions import HubError
from swarm_hub.models.job import ON_ERROR_FAIL, ON_ERROR_SKIP, REDUCERS

# `--on unmetered`; labels have a `=`.
_UNMETERED: Final = "unmetered"
_LIMITS: Final = ("memory", "wall_time", "output", "fuel")


def _number_or_text(_ctx: object, _option: object, text: str | None) -> int | str | None:
    # The hub itself says what it accepts.
    return int(text) if text is not None and text.isdecimal() else text


def _constraints(_ctx: object, _option: object, wanted: tuple[str, ...]) -> dict[str, Any] | None:
    """Return the constraints that `--on` asks for."""
    found: dict[str, Any] = {}
    for text in wanted:
        name, equals, value = text.partition("=")
        if text == _UNMETERED:
            found["metered"] = False
        elif name and equals:
            found.setdefault("node_labels", {})[name] = value
        else:
            raise click.BadParameter(f"expected NAME=TEXT or {_UNMETERED}, got {text!r}")
    return found or None


def _json_file(_ctx: object, _option: object, path: Path | None) -> Any:
    if path is None:
        return None
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise HubError(f"{path}: is not JSON: {error}") from error


class _Reducer(click.Choice[str]):
    """One of the words, or another one, which only the gateway can know."""

    def convert(
        self, value: str, _param: click.Parameter | None, _ctx: click.Context | None
    ) -> str:
        return value


_OPTIONS: Final = (
    click.option("--name", help="What people call the job."),
    click.option(
        "--label", "labels", callback=pairs, multiple=True, metavar="NAME=TEXT",
        help="A label, to find the job by: job list --label NAME=TEXT (repeatable).",
    ),
    click.option("--runtime", help="The language of a program whose ending does not tell it."),
    click.option("--abi", help="How the module is called; by default found from its exports."),
    click.option("--entry", help="The export to call if several fit."),
    click.option("--split", help="What an item is: i32, lines, json, files, args, records:N."),
    click.option(
        "--reduce", type=_Reducer(REDUCERS),
        help="How results are folded; or by a component of the gateway's owner.",
    ),
    click.option(
        "--shard-size", type=click.IntRange(min=1), help="The exact size of a shard, in items."
    ),
    click.option(
        "--redundancy", callback=_number_or_text,
        help="How many nodes run each shard, most of which must agree; or adaptive.",
    ),
    click.option(
        "--deterministic", is_flag=True, default=None,
        help="A fixed clock and fixed randomness, so that two runs give the same bytes.",
    ),
    click.option(
        "--deadline", "deadline_s", callback=seconds, help="Fail after this time, e.g. 10m."
    ),
    click.option(
        "--priority", type=click.IntRange(-100, 100), help="Jobs with a higher one go first."
    ),
    click.option(
        "--limits.memory", "memory", metavar="SIZE",
        help="The memory of the module, such as 512MiB; nodes with less get none of the job.",
    ),
    click.option(
        "--limits.wall-time", "wall_time", metavar="TIME",
        help="How long an attempt at a shard may run, such as 10m.",
    ),
    click.option(
        "--limits.output", "output", metavar="SIZE", help="How much a shard may give, such as 8MiB."
    ),
    click.option(
        "--limits.fuel", "fuel", type=click.IntRange(min=1),
        help="How many Wasm instructions a shard may take; counting them costs speed.",
    ),
    click.option(
        "--env", callback=pairs, multiple=True, metavar="NAME=TEXT",
        help="An environment variable of the module (repeatable).",
    ),
    click.option("--arg", "args", multiple=True, help="An argument for the module (repeatable)."),
    click.option(
        "--on", "constraints", callback=_constraints, multiple=True,
        metavar="NAME=TEXT|unmetered",
        help="Use only nodes with this label, or none with a metered network (repeatable).",
    ),
    click.option(
        "--known-answers", callback=_json_file,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A JSON file of items whose results are known, to check nodes against.",
    ),
    click.option(
        "--on-error", type=click.Choice((ON_ERROR_FAIL, ON_ERROR_SKIP)),
        help="What becomes of items on which the module fails: the job fails, or they are left "
        "out.",
    ),
    click.option(
        "--max-failures", callback=_number_or_text, metavar="N|P%",
        help="With --on-error skip, how many items may be left out.",
    ),
    click.option(
        "--isolate/--no-isolate", default=None,
        help="Split a shard that fails until the items that fail are found.",
    ),
)  # fmt: skip


def spec_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def spec_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec that the values of the options make, with nothing that was not asked for."""
    limits = {name: options[name] for name in _LIMITS if options[name] is not None}
    rest = {name: value for name, value in options.items() if name not in _LIMITS}
    rest["args"] = list(rest["args"])
    found = {name: value for name, value in rest.items() if value not in (None, {}, [])}
    return {**found, "limits": limits} if limits else found
