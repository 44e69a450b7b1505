"""Commands on jobs: submit, list, show, watch, cancel, result, failures, receipts."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from swarm_hub.cli.options import echo, hub_options, json_option, note, print_json, seconds, target
from swarm_hub.cli.watch import note_of_failed_items, note_of_result, print_result, watched
from swarm_hub.client import SwarmClient
from swarm_hub.exceptions import HubError
from swarm_hub.models.job import ON_ERROR_FAIL, ON_ERROR_SKIP, REDUCERS
from swarm_hub.util.units import format_size

_T = TypeVar("_T")
# `--on unmetered`; labels have a `=`.
_UNMETERED: Final = "unmetered"
_DETAILS: Final = ("job_id", "state", "reduce", "created_at", "finished_at", "duration_s")


def call(
    options: tuple[Path, str | None, str | None], work: Callable[[SwarmClient], Awaitable[_T]]
) -> _T:
    """Run `work` with a client of the hub that the options select."""
    url, token = target(*options)

    async def run() -> _T:
        async with SwarmClient(url, token) as swarm:
            return await work(swarm)

    return asyncio.run(run())


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
@click.option("--split", help="What an item is: i32, lines, json, files, args, records:N.")
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
    config_dir: Path,
    url: str | None,
    token: str | None,
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

    return call((config_dir, url, token), work)


def _json_file(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise HubError(f"{path}: is not JSON: {error}") from error


@click.group()
def job() -> None:
    """List, show, watch and cancel jobs, fetch results and check their receipts."""


@job.command("list")
@hub_options
@json_option
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True)
def list_jobs(
    config_dir: Path, url: str | None, token: str | None, as_json: bool, limit: int
) -> None:
    """List the newest jobs."""
    found = call((config_dir, url, token), lambda swarm: swarm.jobs(limit))
    if as_json:
        print_json(found)
        return
    for each in found:
        progress = each["progress"]
        done = f"{progress['items_done']}/{progress['items']}"
        echo(f"{each['job_id']}  {each['state']:9}  {done:>22} items  {each['created_at']}")


@job.command()
@hub_options
@json_option
@click.argument("job_id")
def show(config_dir: Path, url: str | None, token: str | None, as_json: bool, job_id: str) -> None:
    """Show a job: its state, progress, failures and what each node did."""
    status = call((config_dir, url, token), lambda swarm: swarm.status(job_id))
    if as_json:
        print_json(status)
        return
    for name in _DETAILS:
        if status.get(name) is not None:
            echo(f"{name:12} {status[name]}")
    progress = status["progress"]
    echo(
        f"{'progress':12} {progress['items_done']} of {progress['items']} items, "
        f"{progress['shards_done']} of {progress['shards']} shards, {progress['retries']} retries"
    )
    for name in ("waits", "problem"):
        if status.get(name):
            echo(f"{name:12} {status[name]}")
    if status.get("note"):
        echo(f"{'note':12} {status['note']}")
    for failure in status.get("failures", ()):
        echo(f"{'failure':12} {failure}")
    for share in status.get("nodes", ()):
        peak = share["peak_memory_bytes"]
        echo(
            f"{'node':12} {share['node_id']}: {share['shards']} shards, {share['wall_s']:.3f} s, "
            f"{share['cpu_s']:.3f} s of CPU" + (f", {format_size(peak)} at most" if peak else "")
        )
    note_of_failed_items(status)


@job.command()
@hub_options
@json_option
@click.argument("job_id")
def watch(config_dir: Path, url: str | None, token: str | None, as_json: bool, job_id: str) -> int:
    """Wait for a job, show its progress and print the result."""
    return call((config_dir, url, token), lambda swarm: watched(swarm, job_id, as_json))


@job.command()
@hub_options
@click.argument("job_id")
def cancel(config_dir: Path, url: str | None, token: str | None, job_id: str) -> int:
    """Cancel a job."""
    status = call((config_dir, url, token), lambda swarm: swarm.cancel(job_id))
    note(f"Job {job_id} is {status['state']}")
    return 0 if status["state"] == "cancelled" else 1


@job.command()
@hub_options
@click.argument("job_id")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A file.")
@click.option(
    "--partial", is_flag=True, help="Of a failed or cancelled job, the result of what was done."
)
def result(
    config_dir: Path,
    url: str | None,
    token: str | None,
    job_id: str,
    output: Path | None,
    partial: bool,
) -> None:
    """Print or save the result of a completed job."""

    async def work(swarm: SwarmClient) -> bytes:
        body = await swarm.result(job_id, partial=partial)
        status = await swarm.status(job_id)
        if status["state"] != "completed":
            progress = status["progress"]
            note(
                f"Job {job_id} is {status['state']}: this is the result of "
                f"{progress['items_done']} of {progress['items']} items"
            )
        note_of_result(status)
        note_of_failed_items(status)
        return body

    _give(call((config_dir, url, token), work), output)


@job.command()
@hub_options
@json_option
@click.argument("job_id")
def failures(
    config_dir: Path, url: str | None, token: str | None, as_json: bool, job_id: str
) -> None:
    """List the items of a job on which its module failed: where they are, why and on which nodes.

    They are skipped (left out of the result), failed, cancelled, or retrying.
    """

    async def work(swarm: SwarmClient) -> None:
        found = []
        async for each in swarm.failures(job_id):
            if as_json:
                found.append(each)
            else:
                echo(f"{each['state']:9}  {each['message']}")
        if as_json:
            print_json(found)

    call((config_dir, url, token), work)


@job.command()
@hub_options
@json_option
@click.argument("job_id")
def receipts(
    config_dir: Path, url: str | None, token: str | None, as_json: bool, job_id: str
) -> int:
    """Check the signed receipts of a job's results here, without believing the hub.

    Shows the shard, node and hash of each result, the key that signed it, and whether it counts or
    why its receipt is INVALID. The exit code is 1 if one is.
    """
    from swarm_hub.cli.receipts import check_receipts

    return call((config_dir, url, token), lambda swarm: check_receipts(swarm, job_id, as_json))


@click.command()
@hub_options
@click.argument("sha")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A file.")
def data(
    config_dir: Path, url: str | None, token: str | None, sha: str, output: Path | None
) -> None:
    """Print or save a large result by its SHA-256, whichever hub has it (needs `content:`)."""
    _give(call((config_dir, url, token), lambda swarm: swarm.data(sha)), output)


def _give(body: bytes, output: Path | None) -> None:
    if output is not None:
        output.write_bytes(body)
        note(f"{len(body)} bytes in {output}")
    else:
        print_result(body)


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
