"""`map`: an expression or a function of a Python file, called for each line, value or file."""

import ast
import json
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from swarm_hub.cli.calls import call
from swarm_hub.cli.options import Target, echo, hub_options, json_option, note, print_json
from swarm_hub.cli.selection import the_job
from swarm_hub.exceptions import HubError

if TYPE_CHECKING:
    from swarm_hub.client import AsyncSwarm
    from swarm_hub.client.functions.packing import Packed

_STDIN: Final = Path("-")
_FUNCTION: Final = re.compile(r"(.+\.py):([A-Za-z_][A-Za-z0-9_]*)\Z")
_REDUCES: Final = ("sum", "min", "max", "count", "list", "json", "concat")
_NAME_MAX_CHARS: Final = 60


@click.command("map")
@hub_options
@json_option
@click.argument("terms", nargs=-1, metavar="EXPR|FILE:FUNC [INPUT]...")
@click.option("--file", "function", metavar="FILE:FUNC", help="Call this; all else is INPUT.")
@click.option(
    "--split", type=click.Choice(("lines", "json", "files")), default="lines", show_default=True,
    help="What x is: a line as text, a value of a JSON list, or the bytes of a file.",
)  # fmt: skip
@click.option("--reduce", type=click.Choice(_REDUCES), help="Print one result of all.")
@click.option("--unordered", is_flag=True, help="Print results as they come.")
@click.option("--keep-going", is_flag=True, help="Go on after an item that fails.")
@click.option(
    "--joblog", type=click.Path(dir_okay=False, path_type=Path),
    help="Write items, node, seconds and exit code of what is done to this file, tab-separated.",
)  # fmt: skip
@click.option("--resume", is_flag=True, help="Leave out the items that are done in the --joblog.")
@click.option("--job", "job_id", metavar="JOB", help="Go on with this job; submit nothing.")
@click.option("--dry-run", is_flag=True, help="List what would leave this machine; send nothing.")
@click.option("--eta", is_flag=True, help="Tell how long it will take, also on a terminal.")
@click.option(
    "--parallel-exit", is_flag=True,
    help="Exit as GNU parallel does: with how many items failed, 101 if more than 100.",
)  # fmt: skip
@click.option("--shard-size", type=click.IntRange(min=1), help="Items in a shard, exactly.")
@click.option("--redundancy", type=click.IntRange(min=1), help="How many nodes do each item.")
@click.option("--priority", type=click.IntRange(-100, 100), help="Higher ones go first.")
@click.option("--name", help="What people call the job.")
def map_command(
    hub: Target,
    as_json: bool,
    terms: tuple[str, ...],
    function: str | None,
    split: str,
    reduce: str | None,
    unordered: bool,
    keep_going: bool,
    joblog: Path | None,
    resume: bool,
    job_id: str | None,
    dry_run: bool,
    eta: bool,
    parallel_exit: bool,
    **spec: Any,
) -> int:
    """Call a Python expression of x, or a function of a file, for each INPUT on all devices.

    x is a line of the INPUT files, of stdin where there is none or it is `-`. What items give is
    printed in their order: texts as they are, all else as JSON. The hub needs a python runtime;
    see: swarm-hub runtime list.

    \b
    swarm-hub map 'len(x.split())' README.md --reduce sum
    ls *.csv | swarm-hub map --file job.py:clean -
    """
    from swarm_hub.cli.maplog import MapLog
    from swarm_hub.cli.mapping import Output, map_items
    from swarm_hub.client.functions.jobs import lines_of

    if resume and joblog is None:
        raise click.UsageError("--resume needs the --joblog of what is done")
    if reduce is not None and unordered:
        raise click.UsageError("--reduce gives one result: leave out --unordered")
    if reduce is not None and (resume or keep_going):
        raise click.UsageError("--reduce needs all items: leave out --resume and --keep-going")
    packed, rest = _packed(function, terms, job_id)
    items: list[Any] | None = None
    if packed is not None and (job_id is None or rest or not sys.stdin.isatty()):
        items = _items(rest, split, is_attached=job_id is not None)
    if dry_run:
        if packed is None:
            raise click.UsageError("give what would be sent: EXPR or FILE:FUNC")
        _show(packed, items or [], spec, as_json)
        return 0
    if items is not None:
        # What can't be sent is said before anything is.
        lines_of(items)
    if items == [] and job_id is None:
        note("There are no items")
        if as_json:
            print_json({"job_id": None, "done": 0, "failed": 0, "results": []})
        return 0
    output = Output(reduce, as_json=as_json, ordered=not unordered)

    async def work(swarm: "AsyncSwarm") -> int:
        found = None if job_id is None else await the_job(swarm, job_id)
        if joblog is None:
            failed = await map_items(
                swarm, packed, items, spec, output, job_id=found, keep_going=keep_going, eta=eta
            )
        else:
            with MapLog(joblog, packed, items, resume=resume) as log:
                failed = await map_items(
                    swarm, packed, items, spec, output, job_id=found, keep_going=keep_going,
                    eta=eta, log=log,
                )  # fmt: skip
        if parallel_exit:
            return min(failed, 101)
        return 1 if failed else 0

    try:
        return call(hub, work)
    except HubError as error:
        if not parallel_exit:
            raise
        note(f"swarm-hub: {error}")
        return 255


def _packed(
    function: str | None, terms: tuple[str, ...], job_id: str | None
) -> tuple["Packed | None", tuple[str, ...]]:
    """Return what is to be called, and the inputs."""
    from swarm_hub.client.functions.packing import pack_expression

    if function is not None:
        if (named := _FUNCTION.match(function)) is None:
            raise click.UsageError(f"--file: expected FILE.py:FUNCTION, got {function!r}")
        return _of_file(Path(named[1]), named[2]), terms
    if not terms:
        if job_id is not None:
            return None, ()
        raise click.UsageError("give an expression of x such as 'len(x)', or FILE.py:FUNCTION")
    if (named := _FUNCTION.match(terms[0])) is not None:
        return _of_file(Path(named[1]), named[2]), terms[1:]
    return pack_expression(terms[0]), terms[1:]


def _of_file(path: Path, name: str) -> "Packed":
    from swarm_hub.client.functions.packing import pack_source, read_source

    source = read_source(path)
    packed = pack_source(path.name, source, name)
    defined = [
        node.name
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]
    assigned = {
        node.id
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    if name not in defined and name not in assigned:
        known = ", ".join(defined[:20]) or "none"
        raise HubError(f"{path} has no function {name}; those it has: {known}")
    return packed


def _items(inputs: Sequence[str], split: str, *, is_attached: bool) -> list[Any]:
    from swarm_hub.cli.inputs import read_inputs

    paths = [Path(each) for each in inputs] or [_STDIN]
    if _STDIN in paths and len(paths) > 1:
        raise click.UsageError("give either - for stdin or files, not both")
    if paths == [_STDIN] and not inputs and sys.stdin.isatty() and not is_attached:
        raise click.UsageError("give INPUT files, - for stdin, or a pipe")
    for path in paths:
        if path != _STDIN and not path.exists():
            raise click.UsageError(f"there is no file {path}")
    if split == "files":
        if paths == [_STDIN]:
            paths = [Path(each.name) for each in read_inputs(paths, None, "lines") if each.name]
        return [_bytes_of(path) for path in paths]
    given = read_inputs(paths, None, split)
    if split == "json":
        return [each.content for each in given]
    return [
        each.content.decode(errors="surrogateescape").removesuffix("\n").removesuffix("\r")
        for each in given
    ]


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise HubError(f"{path}: can't be read: {error.strerror}") from error


def _show(packed: "Packed", items: list[Any], spec: dict[str, Any], as_json: bool) -> None:
    from swarm_hub.client.functions.jobs import lines_of

    size_bytes = len(lines_of(items))
    wanted = {key: value for key, value in spec.items() if value is not None}
    if as_json:
        leaves = [{"kind": kind, "what": what} for kind, what in packed.leaves]
        print_json({"sends": leaves, "items": len(items), "bytes": size_bytes, "spec": wanted})
        return
    for kind, what in packed.leaves:
        echo(f"{kind:8} {what}")
    echo(f"items    {len(items):,}, {size_bytes:,} bytes")
    if wanted:
        echo(f"spec     {json.dumps(wanted)}")
    for item in items[:3]:
        text = repr(item)
        echo(f"         {shlex.quote(text[:_NAME_MAX_CHARS])}")
