"""`submit`: a module and its inputs become a job."""

import json
import sys
from pathlib import Path
from typing import Any, Final

import click

from swarm_hub.cli.calls import call
from swarm_hub.cli.options import Target, echo, hub_options, json_option, note, print_json, seconds
from swarm_hub.cli.watch import watched
from swarm_hub.client import SwarmClient
from swarm_hub.exceptions import HubError
from swarm_hub.models.job import ON_ERROR_FAIL, ON_ERROR_SKIP, REDUCERS

# `--on unmetered`; labels have a `=`.
_UNMETERED: Final = "unmetered"


def _number_or_text(_ctx: object, _option: object, text: str | None) -> int | str | None:
    # The hub itself says what it accepts.
    return int(text) if text is not None and text.isdecimal() else text


def _constraints(wanted: tuple[str, ...]) -> dict[str, Any]:
    """Return the constraints that `--on` asks for."""
    found: dict[str, Any] = {}
    for text in wanted:
        name, equals, value = text.partition("=")
        if text == _UNMETERED:
            found["metered"] = False
        elif name and equals:
            found.setdefault("node_labels", {})[name] = value
        else:
            said = f"expected NAME=TEXT or {_UNMETERED}, got {text!r}"
            raise click.BadParameter(said, param_hint="--on")
    return found


@click.command()
@hub_options
@json_option
@click.argument("module", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument(
    "inputs",
    nargs=-1,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
)
@click.option("--abi", help="How the module is called; by default found from its exports.")
@click.option("--entry", help="The export to call if several fit.")
@click.option("--split", help="What an item is: i32, lines, json, files, records:N.")
@click.option("--range", "bounds", metavar="LO:HI", help="Numbers as items: LO to HI - 1.")
@click.option("--reduce", "reducer", type=click.Choice(REDUCERS), help="How results are folded.")
@click.option(
    "--shard-size", type=click.IntRange(min=1), help="The exact size of a shard, in items."
)
@click.option(
    "--redundancy",
    callback=_number_or_text,
    help="How many nodes run each shard, most of which must agree; or adaptive.",
)
@click.option("--deadline", "deadline_s", callback=seconds, help="Fail after this time, e.g. 10m.")
@click.option("--priority", type=click.IntRange(-100, 100), help="Jobs with a higher one go first.")
@click.option(
    "--on",
    "wanted",
    multiple=True,
    metavar="NAME=TEXT|unmetered",
    help="Use only nodes with this label, or none with a metered network (repeatable).",
)
@click.option(
    "--known-answers",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A JSON file of items whose results are known, to check nodes against.",
)
@click.option(
    "--on-error",
    type=click.Choice((ON_ERROR_FAIL, ON_ERROR_SKIP)),
    help="What becomes of items on which the module fails: the job fails, or they are left out.",
)
@click.option(
    "--max-failures",
    callback=_number_or_text,
    metavar="N|P%",
    help="With --on-error skip, how many items may be left out.",
)
@click.option(
    "--isolate/--no-isolate",
    default=None,
    help="Split a shard that fails until the items that fail are found.",
)
@click.option("--arg", "args", multiple=True, help="An argument for the module (repeatable).")
@click.option(
    "--with",
    "interpreter",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="MODULE is a script; this Wasm module interprets it.",
)
@click.option("--watch", is_flag=True, help="Wait, show progress and print the result.")
def submit(
    hub: Target,
    as_json: bool,
    module: Path,
    inputs: tuple[Path, ...],
    bounds: str | None,
    reducer: str | None,
    shard_size: int | None,
    args: tuple[str, ...],
    watch: bool,
    interpreter: Path | None,
    wanted: tuple[str, ...],
    known_answers: Path | None,
    **spec: Any,
) -> int:
    """Submit MODULE (Wasm, or WAT text in a .wat file) with INPUT files, `-` for stdin.

    With --with, MODULE is a script and the option names the Wasm module that interprets it.
    """
    from swarm_hub.cli.inspect import load_module

    items = _items(inputs, bounds)
    if bounds is not None:
        if spec["split"] not in (None, "range"):
            raise click.UsageError(f"--range makes numbers; leave out --split {spec['split']}")
        spec["split"] = "range"
    if wanted:
        spec["constraints"] = _constraints(wanted)
    if known_answers is not None:
        spec["known_answers"] = _json_file(known_answers)
    wasm = load_module(interpreter or module)

    async def work(swarm: SwarmClient) -> int:
        job_id = await swarm.submit(
            wasm,
            items,
            reduce=reducer,
            shard_size=shard_size,
            args=list(args) or None,
            script=None if interpreter is None else module,
            **{key: value for key, value in spec.items() if value is not None},
        )
        if not watch:
            if as_json:
                print_json({"job_id": job_id})
            else:
                echo(job_id)
            return 0
        note(f"Job {job_id}")
        return await watched(swarm, job_id, as_json)

    return call(hub, work)


def _json_file(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise HubError(f"{path}: is not JSON: {error}") from error


def _items(inputs: tuple[Path, ...], bounds: str | None) -> Any:
    if bounds is not None:
        if inputs:
            raise click.UsageError("give either --range or input files, not both")
        low, separator, high = bounds.partition(":")
        try:
            return range(int(low), int(high)) if separator else _bad_range(bounds)
        except ValueError:
            return _bad_range(bounds)
    if not inputs:
        raise click.UsageError("give input files (- for stdin) or --range LO:HI")
    if inputs == (Path("-"),):
        return sys.stdin.buffer.read()
    return list(inputs)


def _bad_range(bounds: str) -> Any:
    raise click.UsageError(f"--range: expected LO:HI, such as 0:1000000, got {bounds!r}")
