"""`submit`: a module and its inputs become a job."""

import dataclasses
import json
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from swarm_hub.cli.calls import call
from swarm_hub.cli.each import Halt, Wanted, halt, run_each
from swarm_hub.cli.inputs import Input, dataset_of, read_inputs
from swarm_hub.cli.joblog import JobLog
from swarm_hub.cli.options import Target, echo, hub_options, json_option, note, print_json
from swarm_hub.cli.selection import the_job
from swarm_hub.cli.spec_options import spec_of, spec_options
from swarm_hub.cli.watch import watched
from swarm_hub.client import SwarmClient
from swarm_hub.models.job import ON_ERROR_SKIP

_A_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_FILE_OR_STDIN: Final = click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
_STDIN: Final = Path("-")
_NUMBERS: Final = re.compile(r"-?[0-9]+:-?[0-9]+", re.ASCII)


def _module(_ctx: object, _argument: object, text: str | None) -> Path | None:
    if text is None or (path := Path(text)).is_file():
        return None if text is None else path
    from swarm_hub.cli.example import examples

    hint = ""
    if text in examples():
        hint = f"; the example is printed by: swarm-hub example {text} > {text}.wat"
    what = "is a directory" if path.is_dir() else "does not exist"
    raise click.BadParameter(f"the file {text} {what}{hint}")


def _inputs(_ctx: object, _argument: object, texts: tuple[str, ...]) -> tuple[Path, ...]:
    for text in texts:
        path = Path(text)
        if path == _STDIN or path.is_file() or path.is_fifo():
            continue
        if path.is_dir():
            raise click.BadParameter(f"{text} is a directory; give its files: {text}/*")
        hint = f"; numbers are given with --range {text}" if _NUMBERS.fullmatch(text) else ""
        raise click.BadParameter(f"there is no file {text}{hint}")
    return tuple(map(Path, texts))


@click.command()
@hub_options
@json_option
@click.argument("module", required=False, callback=_module, metavar="MODULE")
@click.argument("inputs", nargs=-1, callback=_inputs, metavar="[INPUT]...")
@click.option("--range", "bounds", metavar="LO:HI", help="Numbers as items: LO to HI - 1.")
@click.option(
    "-a", "--arg-file", type=_FILE_OR_STDIN, help="A file of inputs, each a line; `-` for stdin."
)
@click.option(
    "--with",
    "interpreter",
    type=_A_FILE,
    help="MODULE is a script; this Wasm module interprets it.",
)
@spec_options
@click.option("--watch", is_flag=True, help="Wait, show progress and print the result.")
@click.option("--nodes", "with_nodes", is_flag=True, help="With --watch, a line for each node.")
@click.option("--dry-run", is_flag=True, help="Show what would be submitted, and submit nothing.")
@click.option("--job", "job_id", metavar="JOB", help="Go on with this job; submit nothing.")
@click.option(
    "--results",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write what each input gives to a file in this directory, named after it.",
)
@click.option(
    "--joblog",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a line for each input that is done to this file, with GNU parallel's columns.",
)
@click.option("--resume", is_flag=True, help="Leave out the inputs that are in the --joblog.")
@click.option(
    "--resume-failed", is_flag=True, help="Leave out those that are there without a failure."
)
@click.option("-k", "--keep-order", is_flag=True, help="Print what inputs give in their order.")
@click.option("--tag", is_flag=True, help="Begin each line of what an input gives with its name.")
@click.option(
    "--halt",
    callback=halt,
    metavar="WHEN",
    help="Stop once inputs failed: now,fail=1 at once, soon,fail=10% when what runs is done.",
)
@click.option(
    "--retries", type=click.IntRange(0, 100), help="Submit inputs that failed so often again."
)
@click.option("--eta", is_flag=True, help="Wait, and show how long it will take.")
def submit(
    hub: Target,
    as_json: bool,
    module: Path | None,
    inputs: tuple[Path, ...],
    bounds: str | None,
    arg_file: Path | None,
    interpreter: Path | None,
    watch: bool,
    with_nodes: bool,
    dry_run: bool,
    job_id: str | None,
    results: Path | None,
    joblog: Path | None,
    resume: bool,
    resume_failed: bool,
    keep_order: bool,
    tag: bool,
    halt: Halt | None,
    retries: int | None,
    eta: bool,
    **options: Any,
) -> int:
    """Submit MODULE (Wasm, or WAT text) with INPUT files, `-` for stdin.

    MODULE may be a program (.py, .js) that the hub has a runtime for; see: swarm-hub runtime list.
    With --with, MODULE is a script and the option names the Wasm module that interprets it.

    What GNU parallel does is done with --results, --joblog, --resume, --keep-order, --tag, --halt
    and --retries: each input (a file, or a line of -a FILE) is a shard by itself, what it gives is
    there as soon as it is done, and inputs that fail are left out.
    """
    from swarm_hub.cli.inspect import load_module
    from swarm_hub.client.submission import is_program

    if module is None:
        if job_id is None:
            raise click.UsageError("give a MODULE, or --job JOB to go on with one")
        return call(hub, lambda swarm: _watch(swarm, job_id, as_json, with_nodes))
    if (resume or resume_failed) and joblog is None:
        raise click.UsageError("--resume needs the --joblog of what is done")
    spec, numbers = spec_of(options), _range(bounds)
    if arg_file is not None:
        if inputs or spec.get("split", "lines") != "lines":
            raise click.UsageError("-a gives the inputs, each a line: leave out files and --split")
        inputs, spec["split"] = (arg_file,), "lines"
    _check_inputs(inputs, numbers, spec)
    each = results or joblog or keep_order or tag or halt or retries is not None
    if not each and job_id is not None:
        return call(hub, lambda swarm: _watch(swarm, job_id, as_json, with_nodes))
    script: Path | None
    if interpreter is None and ("runtime" in spec or is_program(module)):
        # The hub has what interprets it.
        wasm, script = b"", module
    else:
        wasm = load_module(interpreter or module)
        script = None if interpreter is None else module
    if each:
        spec = _spec_of_each(spec, inputs)
        given = read_inputs(inputs, numbers, spec["split"])
        wanted = Wanted(
            module.name, None, results, ".tar" if spec.get("abi") == "wasi-files" else "", halt,
            retries or 0, tag, keep_order, eta, as_json, numbers is not None,
        )  # fmt: skip
        if dry_run:
            for one in given:
                echo(shlex.join([module.name, *spec.get("args", ()), one.name]))
            return 0
        return call(
            hub,
            lambda swarm: _run_each(
                swarm, wasm, script, spec, given, wanted, joblog, resume, resume_failed, job_id
            ),
        )
    items = _items(inputs, numbers)
    if dry_run:
        _show(module, wasm, inputs, bounds, spec)
        return 0

    async def work(swarm: SwarmClient) -> int:
        submitted = await swarm.submit(wasm, items, script=script, **spec)
        if watch or eta or with_nodes:
            note(f"Job {submitted}")
            return await watched(swarm, submitted, as_json, with_nodes)
        if as_json:
            print_json({"job_id": submitted})
        else:
            echo(submitted)
        return 0

    return call(hub, work)


async def _watch(swarm: SwarmClient, job_id: str, as_json: bool, with_nodes: bool) -> int:
    return await watched(swarm, await the_job(swarm, job_id), as_json, with_nodes)


async def _run_each(
    swarm: SwarmClient,
    wasm: bytes,
    script: Path | None,
    spec: dict[str, Any],
    inputs: Sequence[Input],
    wanted: Wanted,
    joblog: Path | None,
    resume: bool,
    resume_failed: bool,
    job_id: str | None,
) -> int:
    job_id = None if job_id is None else await the_job(swarm, job_id)

    async def submit_those(given: Sequence[Input]) -> str:
        return await swarm.submit(wasm, dataset_of(given, spec["split"]), script=script, **spec)

    if joblog is None:
        return await run_each(swarm, inputs, wanted, submit_those, frozenset(), job_id)
    with JobLog(joblog, resume=resume or resume_failed) as log:
        log.check({each.seq: wanted.name(each) for each in inputs})
        done_before = frozenset(
            seq for seq, (code, _) in log.before.items() if not resume_failed or code == 0
        )
        logged = dataclasses.replace(wanted, log=log)
        return await run_each(swarm, inputs, logged, submit_those, done_before, job_id)


def _spec_of_each(spec: dict[str, Any], inputs: tuple[Path, ...]) -> dict[str, Any]:
    """Return the spec of a job of which each input is a shard by itself."""
    for name in ("shard_size", "reduce"):
        if name in spec:
            option = name.replace("_", "-")
            raise click.UsageError(f"each input is a shard by itself here: leave out --{option}")
    split = "lines" if inputs == (_STDIN,) else "files"
    return {
        "split": split, "on_error": ON_ERROR_SKIP, **spec, "shard_size": 1, "reduce": "count",
    }  # fmt: skip


def _check_inputs(inputs: tuple[Path, ...], numbers: range | None, spec: dict[str, Any]) -> None:
    if numbers is None:
        if not inputs:
            raise click.UsageError("give input files (- for stdin), -a FILE or --range LO:HI")
        if _STDIN in inputs and len(inputs) > 1:
            raise click.UsageError("give either - for stdin or files, not both")
        return
    if inputs:
        raise click.UsageError("give either --range or input files, not both")
    if spec.get("split", "range") != "range":
        raise click.UsageError(f"--range makes numbers; leave out --split {spec['split']}")
    spec["split"] = "range"


def _range(bounds: str | None) -> range | None:
    if bounds is None:
        return None
    low, separator, high = bounds.partition(":")
    try:
        if separator:
            return range(int(low), int(high))
    except ValueError:
        pass
    raise click.UsageError(f"--range: expected LO:HI, such as 0:1000000, got {bounds!r}")


def _items(inputs: tuple[Path, ...], numbers: range | None) -> Any:
    if numbers is not None:
        return numbers
    return sys.stdin.buffer.read() if inputs == (_STDIN,) else list(inputs)


def _show(
    module: Path, wasm: bytes, inputs: tuple[Path, ...], bounds: str | None, spec: dict[str, Any]
) -> None:
    names = [f"--range {bounds}"] if bounds is not None else [str(path) for path in inputs]
    what = f"{len(wasm):,} bytes of Wasm" if wasm else "a program"
    echo(f"module   {module}, {what}")
    echo(f"inputs   {shlex.join(names) if bounds is None else names[0]}")
    echo(f"spec     {json.dumps(spec, ensure_ascii=False)}")
