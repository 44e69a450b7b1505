"""A job of which each input has a result, an output and a line in a log of its own.

It is what GNU parallel does: each input is an item that is a shard by itself.
"""

import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click

from swarm_hub.cli.following import is_away, persistently
from swarm_hub.cli.inputs import Input
from swarm_hub.cli.joblog import JobLog, Line, exit_code_of
from swarm_hub.cli.options import note, print_json
from swarm_hub.cli.progress import JobView
from swarm_hub.cli.selection import node_names
from swarm_hub.cli.watch import follow, shown
from swarm_hub.client import ClientError, SwarmClient
from swarm_hub.exceptions import HubError
from swarm_hub.util.files import write_atomic
from swarm_hub.util.printable import printable

_HALT: Final = re.compile(r"(now|soon),fail=([0-9]+)(%?)\Z", re.ASCII)
_NAME_MAX_BYTES: Final = 120
_GIVEN_UP: Final = ("skipped", "failed")
_PERCENT: Final = 100


@dataclass(frozen=True, slots=True)
class Halt:
    """When to stop: after so many inputs (or percent of them) failed, at once or soon."""

    at_once: bool
    fail: int
    is_percent: bool

    def is_reached(self, n_failed: int, n_inputs: int) -> bool:
        """Whether so many have failed."""
        if self.is_percent:
            return n_failed * _PERCENT >= self.fail * n_inputs and n_failed > 0
        return n_failed >= self.fail


def halt(_ctx: object, _option: object, text: str | None) -> Halt | None:
    """Read `now,fail=1`, `soon,fail=10%` or `never`; the callback of `--halt`."""
    if text in (None, "never"):
        return None
    match = _HALT.match(text or "")
    if match is None or not int(match[2]):
        raise click.BadParameter(
            f"expected now,fail=1, soon,fail=3, soon,fail=10% or never, got {text!r}"
        )
    return Halt(match[1] == "now", int(match[2]), bool(match[3]))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of each input."""

    command: str
    log: JobLog | None = None
    results: Path | None = None
    suffix: str = ""
    halt: Halt | None = None
    retries: int = 0
    tag: bool = False
    keep_order: bool = False
    eta: bool = False
    as_json: bool = False
    # Whether a job has its inputs in a row, as numbers are.
    in_a_row: bool = False

    @property
    def prints(self) -> bool:
        """Whether what the inputs give goes to stdout."""
        return not self.as_json and (self.results is None or self.tag or self.keep_order)

    def name(self, given: Input) -> str:
        """Return what an input is called in a log."""
        return f"{self.command} {given.name}"


class Outputs:
    """Where the results of inputs go: to files named after them, and to stdout, one at a time."""

    def __init__(self, wanted: Wanted, inputs: Sequence[Input]) -> None:
        self._wanted = wanted
        self._waiting: dict[int, tuple[Input, bytes] | None] = {}
        self._order = [each.seq for each in inputs]
        self._next = 0
        self._names = file_names(inputs, wanted.suffix)

    def give(self, given: Input, body: bytes) -> None:
        """Take an input's result."""
        if self._wanted.results is not None:
            path = self._wanted.results / self._names[given.seq]
            try:
                write_atomic(path, body, mode=0o644, durable=False)
            except OSError as error:
                raise HubError(f"--results {path}: can't be written: {error.strerror}") from error
        if not self._wanted.prints:
            return
        if not self._wanted.keep_order:
            self._print(given, body)
            return
        self._waiting[given.seq] = given, body
        self._print_those_whose_turn_it_is()

    def leave_out(self, seq: int) -> None:
        """Wait no more for an input, as it has failed or was done before."""
        self._waiting[seq] = None
        self._print_those_whose_turn_it_is()

    def end(self) -> None:
        """Print what waits for inputs that will not come any more."""
        for seq in self._order[self._next :]:
            self._waiting.setdefault(seq, None)
        self._print_those_whose_turn_it_is()

    def _print_those_whose_turn_it_is(self) -> None:
        while self._next < len(self._order) and self._order[self._next] in self._waiting:
            found = self._waiting.pop(self._order[self._next])
            self._next += 1
            if found is not None and self._wanted.prints:
                self._print(*found)

    def _print(self, given: Input, body: bytes) -> None:
        if body and not body.endswith(b"\n"):
            body += b"\n"
        if self._wanted.tag:
            tag = printable(given.name).replace("\n", " ").encode() + b"\t"
            body = b"".join(tag + line for line in body.splitlines(keepends=True))
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()


def file_names(inputs: Sequence[Input], suffix: str = "") -> dict[int, str]:
    """Return the name of a file for each input, by `seq`: its own, made safe, and unlike others."""
    found: dict[int, str] = {}
    taken: set[str] = set()
    for each in inputs:
        safe = re.sub(r"[/\s]+", "_", printable(each.name)).encode()[:_NAME_MAX_BYTES]
        name = safe.decode(errors="ignore").lstrip(".") or f"{each.seq}"
        if f"{name}{suffix}" in taken:
            name = f"{name}.{each.seq}"
        taken.add(f"{name}{suffix}")
        found[each.seq] = f"{name}{suffix}"
    return found


@dataclass(slots=True)
class _Failure:
    message: str
    node: str


@dataclass(slots=True)
class Round:
    """One job over inputs; a `Listener` that gives what it hears of to where it is wanted."""

    swarm: SwarmClient
    job_id: str
    # By the index of their shards.
    inputs: Sequence[Input]
    # Of those, the ones that are wanted.
    wanted_seqs: frozenset[int]
    wanted: Wanted
    outputs: Outputs
    # Whether what fails is not tried again.
    is_last: bool
    done: set[int] = field(default_factory=set)
    failed: dict[int, _Failure] = field(default_factory=dict)
    halted: bool = False
    _began: dict[int, float] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)
    _n_told: int = 0
    # The shards that are still waited for before the job is cancelled.
    _awaited: frozenset[int] | None = None

    async def on_event(self, event: dict[str, Any], view: JobView) -> None:
        """Take in an event of the job; a result is fetched and given on."""
        kind, index = event["event_type"], event["data"].get("index")
        if kind == "shard_assigned":
            self._began[index] = datetime.fromisoformat(event["time_fired"]).timestamp()
        elif kind == "shard_done":
            await self._on_done(index, event["data"])

    async def on_status(self, view: JobView) -> None:
        """Look what failed, and stop the job where that is too much."""
        try:
            if view.status["failed_items"] != self._n_told:
                await self.see_failures()
            await self._halt(view)
        except ClientError as error:
            if not is_away(error):
                raise
            # It is asked again.

    async def see_failures(self) -> None:
        """Ask which inputs were given up."""
        found = [each async for each in self.swarm.failures(self.job_id)]
        self._n_told = sum(each["n_items"] for each in found if each["state"] == "skipped")
        for each in found:
            if each["state"] not in _GIVEN_UP:
                continue
            for index in range(each["first_item"], each["first_item"] + each["n_items"]):
                seq = self.inputs[index].seq
                if seq in self.wanted_seqs and index not in self.failed:
                    node = each["nodes"][0]["name"] or "" if each["nodes"] else ""
                    self.failed[index] = _Failure(each["text"], node)
                    note(f"{self.inputs[index].name}: {each['text']}")
                    if self.is_last:
                        self.outputs.leave_out(seq)

    def log_failures(self) -> None:
        """Write the lines of what failed for good."""
        if self.wanted.log is None:
            return
        for index, failure in sorted(self.failed.items()):
            given = self.inputs[index]
            self.wanted.log.add(
                Line(given.seq, failure.node, self._began.get(index, 0.0), 0.0, 0,
                     exit_code_of(failure.message), self.wanted.name(given))
            )  # fmt: skip

    async def _on_done(self, index: int, data: dict[str, Any]) -> None:
        given = self.inputs[index]
        if given.seq not in self.wanted_seqs or index in self.done:
            return
        body = b""
        if self.wanted.prints or self.wanted.results is not None:
            body = await persistently(lambda: self.swarm.shard_result(self.job_id, index))
            self.outputs.give(given, body)
        self.done.add(index)
        if self.wanted.log is not None:
            node_id = data["node_id"]
            if node_id not in self._names:
                self._names = await persistently(lambda: node_names(self.swarm))
            self.wanted.log.add(
                Line(given.seq, self._names.get(node_id, node_id), self._began.get(index, 0.0),
                     data["wall_s"], len(body), 0, self.wanted.name(given))
            )  # fmt: skip

    async def _halt(self, view: JobView) -> None:
        halt = self.wanted.halt
        n_failed = len(self.failed)
        if halt is None or self.halted or not halt.is_reached(n_failed, len(self.wanted_seqs)):
            return
        if not halt.at_once:
            running = view.running
            self._awaited = running if self._awaited is None else self._awaited & running
            if self._awaited:
                return
        note(
            f"{_inputs(n_failed)} failed of {len(self.wanted_seqs)}: the job is cancelled (--halt)"
        )
        await self.swarm.cancel(self.job_id)
        self.halted = True


async def run_each(
    swarm: SwarmClient,
    inputs: Sequence[Input],
    wanted: Wanted,
    submit: Callable[[Sequence[Input]], Awaitable[str]],
    done_before: frozenset[int],
    job_id: str | None = None,
) -> int:
    """Run inputs, but those done before; returns 1 if one of them has no result in the end.

    With `job_id` those of a job that was submitted before.
    """
    left = [each for each in inputs if each.seq not in done_before]
    outputs, told = Outputs(wanted, left), {"done": 0, "failed": 0}
    job_ids: list[str] = []
    for tries_left in range(wanted.retries, -1, -1):
        if not left:
            break
        given = list(left)
        if job_id is not None and not job_ids:
            given = await _inputs_of(swarm, job_id, inputs, left, wanted)
            job_ids.append(job_id)
        else:
            given = _to_submit(inputs, left, wanted)
            job_ids.append(await submit(given))
        note(f"Job {job_ids[-1]}")
        seqs = frozenset(each.seq for each in left)
        round_ = Round(swarm, job_ids[-1], given, seqs, wanted, outputs, not tries_left)
        with shown(beside_output=wanted.prints, eta=wanted.eta) as screen:
            again = "the same command with --job {} (and --resume, if it has a --joblog)"
            try:
                status = await follow(swarm, job_ids[-1], screen, round_, again)
            except ClientError:
                raise
            except HubError:
                # What an input gave can't be written here; the gateway has all of it.
                screen.leave()
                note(f"Job {job_ids[-1]} goes on, and nothing is lost of it: make room, then run")
                note(again.format(job_ids[-1]))
                raise
        await persistently(round_.see_failures)
        told["done"] += len(round_.done)
        left = [given[index] for index in sorted(round_.failed)]
        if left and tries_left and not round_.halted and status["state"] != "cancelled":
            note(f"{_inputs(len(left))} failed, to be tried again")
            continue
        round_.log_failures()
        told["failed"] = len(left)
        n_open = len(seqs) - len(round_.done) - len(left)
        if status["state"] == "failed" and not left:
            note(f"Job {job_ids[-1]} failed: {'; '.join(status['failures'])}")
        left = []
        told["left"] = n_open
    outputs.end()
    return _told(told, job_ids, wanted)


def _told(told: dict[str, int], job_ids: list[str], wanted: Wanted) -> int:
    counts = {"done": told["done"], "failed": told["failed"], "left": told.get("left", 0)}
    if wanted.as_json:
        print_json({"job_ids": job_ids, **counts})
    elif not job_ids:
        note("Nothing to do: every input is in the --joblog (--resume-failed tries what failed)")
    elif counts["failed"] or counts["left"]:
        note(f"{counts['done']} done, {counts['failed']} failed, {counts['left']} not done")
    return 1 if counts["failed"] or counts["left"] else 0


def _inputs(count: int) -> str:
    return "1 input" if count == 1 else f"{count} inputs"


def _to_submit(inputs: Sequence[Input], left: Sequence[Input], wanted: Wanted) -> list[Input]:
    """Return what is left, and what is between where that has to be submitted too."""
    return list(inputs[left[0].seq - 1 : left[-1].seq] if wanted.in_a_row else left)


async def _inputs_of(
    swarm: SwarmClient,
    job_id: str,
    inputs: Sequence[Input],
    left: Sequence[Input],
    wanted: Wanted,
) -> list[Input]:
    """Return the inputs that a job was submitted with; raises HubError if it was none of these."""
    status = await swarm.status(job_id)
    for each in (list(inputs), _to_submit(inputs, left, wanted)):
        if status["progress"]["items"] == len(each) and status["spec"]["shard_size"] == 1:
            return each
    raise HubError(
        f"job {job_id} has {status['progress']['items']} items in shards of "
        f"{status['spec']['shard_size']}, and these are {len(inputs)} inputs; give the inputs that "
        "it was submitted with (to watch any job: swarm-hub job watch)"
    )
