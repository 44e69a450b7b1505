"""A `map` that is followed: what its items give is printed, folded and logged as it comes."""

import json
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from swarm_hub.cli.following import persistently
from swarm_hub.cli.maplog import MapLog
from swarm_hub.cli.options import note, print_json
from swarm_hub.cli.progress import JobView
from swarm_hub.cli.watch import follow, shown
from swarm_hub.client import AsyncSwarm
from swarm_hub.client.functions.answers import is_failure
from swarm_hub.client.functions.jobs import lines_of, packed_submission
from swarm_hub.client.records import ShardResult
from swarm_hub.client.results import fetched, reader_of
from swarm_hub.client.submission import FUNCTIONS_LABEL, Submission, is_of_functions
from swarm_hub.exceptions import HubError
from swarm_hub.util.printable import printable

if TYPE_CHECKING:
    from swarm_hub.client.functions.packing import Packed

_SHOWN_CHARS: Final = 60
_READ: Final = reader_of({"labels": dict([FUNCTIONS_LABEL])})


class Output:
    """Where values go: to stdout one by one, or into one result at the end."""

    def __init__(self, reduce: str | None, *, as_json: bool, ordered: bool) -> None:
        self._reduce = reduce
        self._as_json = as_json
        self.streams = reduce is None and not as_json
        # Only what is printed as it comes may come in any order.
        self.ordered = ordered or not self.streams
        self._told: list[dict[str, Any]] = []
        self._values: list[Any] = []

    def give(self, number: int, value: Any) -> None:
        """Take a value, in the order in which it is to be printed."""
        if self._reduce is not None:
            self._values.append(value)
        elif self._as_json:
            self._told.append({"item": number, "value": jsonable(value)})
        else:
            write(value)

    def fail(self, number: int, text: str) -> None:
        """Take that an item has no value."""
        if self._as_json:
            self._told.append({"item": number, "error": text})

    def end(self, job_id: str | None, done: int, failed: int) -> None:
        """Print what is printed at the end."""
        result = None
        if self._reduce is not None and not failed:
            result = folded(self._reduce, self._values)
        if self._as_json:
            whole = {"job_id": job_id, "done": done, "failed": failed}
            told = sorted(self._told, key=lambda each: each["item"])
            print_json({**whole, **({"results": told} if self._reduce is None else
                                    {"result": jsonable(result)})})  # fmt: skip
        elif self._reduce is not None and not failed:
            write(result)


def folded(reduce: str, values: list[Any]) -> Any:
    """Return the fold of all values; raises HubError for what can't be folded so."""
    try:
        match reduce:
            case "count":
                return len(values)
            case "list":
                return values
            case "concat":
                joined = b"" if values and isinstance(values[0], bytes) else ""
                return joined.join(values)
            case "json":
                return _merged(values)
        return {"sum": sum, "min": min, "max": max}[reduce](values)  # type: ignore[operator]
    except (TypeError, ValueError) as error:
        raise HubError(f"--reduce {reduce}: {error}") from None


def _merged(values: list[Any]) -> dict[Any, Any]:
    """Return dicts as one: numbers are added key by key, nested too; all else has to be equal."""
    found: dict[Any, Any] = {}
    for value in values:
        if not isinstance(value, dict):
            raise TypeError(f"expected dicts, got a {type(value).__name__}")
        for key, each in value.items():
            if key not in found:
                found[key] = each
            elif isinstance(each, dict) and isinstance(found[key], dict):
                found[key] = _merged([found[key], each])
            elif isinstance(each, int | float) and isinstance(found[key], int | float):
                found[key] += each
            elif each != found[key]:
                raise ValueError(f"the values of {key!r} are no numbers, and not equal")
    return found


def jsonable(value: Any) -> Any:
    """Return a value as JSON has it; what it lacks is written as Python writes it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value if value == value else "nan"
    if isinstance(value, list | tuple):
        return [jsonable(each) for each in value]
    if isinstance(value, dict):
        return {key if isinstance(key, str) else repr(key): jsonable(each)
                for key, each in value.items()}  # fmt: skip
    return repr(value)


def write(value: Any) -> None:
    """Print a value: texts and bytes as they are, all else as JSON."""
    if isinstance(value, bytes | bytearray):
        body = bytes(value)
    else:
        text = value if isinstance(value, str) else json.dumps(jsonable(value), ensure_ascii=False)
        # A terminal would do what a device says.
        body = (printable(text) if sys.stdout.isatty() else text).encode(errors="surrogateescape")
    sys.stdout.buffer.write(body if body.endswith(b"\n") else body + b"\n")
    sys.stdout.buffer.flush()


@dataclass(slots=True)
class _Map:
    """One job; a `Listener` that fetches what shards gave, and gives it on."""

    swarm: AsyncSwarm
    job_id: str
    # What its items are called elsewhere: their numbers among all, and what they are.
    numbers: list[int]
    items: list[Any] | None
    output: Output
    keep_going: bool
    log: MapLog | None
    done: int = 0
    failed: int = 0
    stopped: bool = False
    _next: int = 0
    _waiting: dict[int, Any] = field(default_factory=dict)
    _seen: set[int] = field(default_factory=set)
    _shards: set[int] = field(default_factory=set)

    async def on_event(self, event: dict[str, Any], view: JobView) -> None:
        """Take in an event of the job; a result is fetched and given on."""
        data = event["data"]
        if event["event_type"] != "shard_done" or self.stopped or data["index"] in self._shards:
            return
        self._shards.add(data["index"])
        ask = partial(fetched, self.swarm._hub, self.job_id, _READ, [data["index"]])
        (shard,) = await persistently(ask)
        self._take(shard, data["wall_s"])
        if self.failed and not self.keep_going:
            self.stopped = True
            await persistently(partial(self.swarm.cancel, self.job_id))

    async def on_status(self, view: JobView) -> None:
        """Nothing of it is needed: all results are events."""

    async def see_failures(self) -> None:
        """Tell the items that were given up."""
        async for each in self.swarm.failures(self.job_id):
            for item in range(each.first_item, each.first_item + each.n_items):
                if item < len(self.numbers) and item not in self._seen:
                    self._seen.add(item)
                    self._fail(item, each.text, None)
                    if self.log is not None:
                        node = each.nodes[0] if each.nodes else ""
                        self.log.add([self.numbers[item]], node, 0.0, 1, self.job_id)

    def end(self) -> None:
        """Print what waits for items that will not come any more."""
        for item in sorted(self._waiting):
            self.output.give(self.numbers[item], self._waiting[item])
        self._waiting.clear()

    def _take(self, shard: ShardResult, wall_s: float) -> None:
        node = shard.node or shard.node_id
        good: list[int] = []
        bad: list[int] = []
        for item, outcome in enumerate(shard.value, shard.first_item):
            if item >= len(self.numbers):
                raise HubError(f"job {self.job_id} has more items than these")
            self._seen.add(item)
            if is_failure(outcome):
                bad.append(self.numbers[item])
                self._fail(item, f"{type(outcome).__name__}: {outcome}", outcome)
                continue
            good.append(self.numbers[item])
            self.done += 1
            if self.output.ordered:
                self._waiting[item] = outcome
            else:
                self.output.give(self.numbers[item], outcome)
        while self._next in self._seen:
            if self._next in self._waiting:
                self.output.give(self.numbers[self._next], self._waiting.pop(self._next))
            self._next += 1
        if self.log is not None:
            self.log.add(good, node, wall_s, 0, self.job_id)
            self.log.add(bad, node, wall_s, 1, self.job_id)

    def _fail(self, item: int, text: str, error: Exception | None) -> None:
        number = self.numbers[item]
        self.output.fail(number, printable(text))
        if not self.failed and error is not None:
            # Of the first it is shown where.
            note(str(error.__cause__).strip().strip('"').strip())
        what = "" if self.items is None else f" ({_short(self.items[item])})"
        self.failed += 1
        note(f"item {number}{what}: {text}")


def _short(item: Any) -> str:
    text = repr(item)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


async def map_items(
    swarm: AsyncSwarm,
    packed: "Packed | None",
    items: list[Any] | None,
    spec: dict[str, Any],
    output: Output,
    *,
    job_id: str | None,
    keep_going: bool,
    eta: bool,
    log: MapLog | None = None,
) -> int:
    """Call what is packed for items that are not done, and print; returns how many failed.

    With `job_id` those of a job that was submitted before.
    """
    done_before = log.done if log is not None else set()
    numbers = [each for each in range(len(items or [])) if each not in done_before]
    left = None if items is None else [items[each] for each in numbers]
    if job_id is None:
        assert packed is not None, "there is either a job or what to call"
        assert left is not None, "there is either a job or what to call"
        if not left:
            note("Nothing to do: every item is in the --joblog")
            output.end(None, 0, 0)
            return 0
        wanted = {"on_error": "skip", **spec} if keep_going else spec
        files, script, whole = packed_submission(packed, lines_of(left), wanted)
        job_id = await swarm._submitted(Submission(b"", "", files, script, whole))
    else:
        numbers, left = await _of_job(swarm, job_id, numbers, left)
    note(f"Job {job_id}")
    mapping = _Map(swarm, job_id, numbers, left, output, keep_going, log)
    with shown(beside_output=output.streams, eta=eta) as screen:
        status = await follow(
            swarm,
            job_id,
            screen,
            mapping,
            "the same command with --job {} (or: swarm-hub map --job)",
        )
    if not mapping.stopped:
        await persistently(mapping.see_failures)
    mapping.end()
    if status["state"] == "failed" and not mapping.failed:
        raise HubError(f"job {job_id} failed: {'; '.join(status['failures'])}")
    missing = len(numbers) - mapping.done - mapping.failed
    if missing and not mapping.failed:
        raise HubError(f"job {job_id} is {status['state']}: {missing} items are not done")
    if mapping.failed or missing:
        note(f"{mapping.done} done, {mapping.failed} failed, {missing} not done")
    output.end(job_id, mapping.done, mapping.failed)
    return mapping.failed


async def _of_job(
    swarm: AsyncSwarm, job_id: str, numbers: list[int], items: list[Any] | None
) -> tuple[list[int], list[Any] | None]:
    """Return the numbers of a job's items, and the items if they are known here."""
    status = await swarm.status(job_id)
    if not is_of_functions(status):
        raise HubError(f"job {job_id} calls no function; to watch it: swarm-hub job watch {job_id}")
    n_items = status.progress.n_items or 0
    if not items:
        return list(range(n_items)), None
    if n_items == len(items):
        return numbers, items
    raise HubError(
        f"job {job_id} has {n_items} items, and these are {len(items)}; give those that it was "
        "submitted with, or none"
    )
