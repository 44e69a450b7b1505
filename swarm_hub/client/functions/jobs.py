"""Jobs that call a Python function for each item: sent, waited for, and read as they come."""

import asyncio
import contextlib
from array import array
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Set,
)
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from swarm_hub.client.async_job import OnTimeout
from swarm_hub.client.datasets import taken_of
from swarm_hub.client.errors import ClientError, JobFailedError
from swarm_hub.client.functions.answers import RemoteError, first_exception, is_failure, outcomes
from swarm_hub.client.functions.encoding import EncodingError, encode
from swarm_hub.client.functions.packing import PROGRAM_NAME, Packed, pack
from swarm_hub.client.job_calls import AnyJob
from swarm_hub.client.progress import Progress
from swarm_hub.client.records import JobStatus
from swarm_hub.client.submission import FUNCTIONS_LABEL, Submission
from swarm_hub.client.uploads import Source

if TYPE_CHECKING:
    from swarm_hub.client.async_swarm import AsyncSwarm

# A job that takes longer is read while it runs, so that an exception of its first item ends it.
_HELD_S: Final = 2
_CANCEL_WITHIN_S: Final = 5.0
_NAME_MAX_CHARS: Final = 100
# What a job of functions is, which nobody else may say.
_OWN_KEYS: Final = ("split", "reduce", "runtime", "abi", "entry", "args")


class Waiting(NamedTuple):
    """How a call waits for its job."""

    timeout: float | None
    on_timeout: OnTimeout
    progress: Progress


def submission_of(
    function: Callable[..., Any], items: Any, spec: Mapping[str, Any]
) -> tuple[list[tuple[str, Source]], tuple[str, bytes], dict[str, Any]]:
    """Return files, script and spec of a job; raises ClientError for what can't be sent."""
    return packed_submission(pack(function), lines_of(values_of_items(items)), spec)


def packed_submission(
    packed: Packed, lines: bytes, spec: Mapping[str, Any]
) -> tuple[list[tuple[str, Source]], tuple[str, bytes], dict[str, Any]]:
    """Return files, script and spec of a job, of what was packed before."""
    if not lines:
        raise ClientError("items: there are none; nothing would be run")
    if own := [key for key in _OWN_KEYS if spec.get(key) is not None]:
        raise ClientError(f"{own[0]}: a job that calls a function says that itself; leave it out")
    name, value = FUNCTIONS_LABEL
    whole = {
        "name": packed.name[:_NAME_MAX_CHARS],
        # An item does not know which others its shard has, whoever says how many.
        "isolate": spec.get("known_answers") is None,
        **{key: each for key, each in spec.items() if each is not None},
        "labels": {**(spec.get("labels") or {}), name: value},
        "runtime": "python", "split": "lines", "reduce": "concat",
    }  # fmt: skip
    return [("items", lines)], (PROGRAM_NAME, packed.program), whole


def values_of_items(items: Any) -> list[Any]:
    """Return the items of a call as a list; raises ClientError for what has none in a row."""
    match items:
        case str() | bytes() | bytearray():
            raise ClientError("items: a text or bytes is one value; give a list of items")
        case Mapping():
            raise ClientError("items: a mapping has no items in a row; give list(items.items())")
        case Set():
            raise ClientError("items: a set has no order; give sorted(items)")
    if not isinstance(items, Iterable):
        raise ClientError(f"items: expected a list of values, got {type(items).__name__}")
    return list(taken_of(items))


def lines_of(items: Iterable[Any]) -> bytes:
    """Return items as lines; raises ClientError that names the one that is not plain data."""
    lines = []
    for number, item in enumerate(items):
        try:
            lines.append(encode(item))
        except EncodingError as error:
            raise ClientError(f"items[{number}] can't be sent: {error}") from None
    return "".join(f"{line}\n" for line in lines).encode()


def listing(
    function: Callable[..., Any], items: Any, spec: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Return what would leave this machine for a job."""
    packed, values = pack(function), values_of_items(items)
    lines = lines_of(values)
    said = [("items", f"{len(values):,}, {len(lines):,} bytes")]
    return [*packed.leaves, *said, *((key, str(value)) for key, value in spec.items())]


async def map_function(
    swarm: "AsyncSwarm",
    function: Callable[..., Any],
    items: Any,
    waiting: Waiting,
    key: str,
    *,
    return_exceptions: bool,
    spec: Mapping[str, Any],
) -> list[Any]:
    """Return what a function gives for items, in their order."""
    values = values_of_items(items)
    if not values:
        return []
    wanted = {"on_error": "skip", **spec} if return_exceptions else dict(spec)
    job = Submission(b"", "", *packed_submission(pack(function), lines_of(values), wanted))

    async def find(taken: list[str]) -> None:
        await swarm._send(job, key, 0, taken)

    async with swarm._within(waiting.timeout, waiting.on_timeout, find) as taken:
        hold_s = 0 if waiting.progress else min(_HELD_S, swarm._hub.hold_s)
        last = await swarm._send(job, key, hold_s, taken)
        if waiting.progress:
            last = await swarm.wait(taken[0], progress=waiting.progress)
        if last is not None and last.ended and not return_exceptions:
            found: list[Any] = await swarm._value(last)
            return found
        return await _collected(swarm, taken[0], len(values), return_exceptions=return_exceptions)


async def values_of_job(swarm: "AsyncSwarm", status: JobStatus) -> list[Any]:
    """Return the values of a completed job; raises the first exception of its items."""
    body = await swarm.result(status)
    missing = status.failed_items or 0
    n_items = (status.progress.n_items or 0) - missing
    found = outcomes(body, 0, n_items, None)
    if first_exception(found) is None and not missing:
        return found
    # With the nodes, and the items that were left out at their places.
    return await _collected(swarm, status.job_id, n_items + missing, return_exceptions=False)


async def _collected(
    swarm: "AsyncSwarm", job_id: str, n_items: int, *, return_exceptions: bool
) -> list[Any]:
    found: dict[int, Any] = {}
    async with aclosing(outcomes_of(swarm, job_id, n_items, ordered=False)) as all_of_them:
        async for item, outcome in all_of_them:
            if is_failure(outcome) and not return_exceptions:
                await swarm.cancel(job_id)
                raise outcome
            found[item] = outcome
    return [found[item] for item in range(n_items)]


async def each_outcome(
    swarm: "AsyncSwarm",
    function: Callable[..., Any],
    items: Iterable[Any],
    *,
    ordered: bool,
    return_exceptions: bool,
    progress: Progress,
    timeout: float | None,
    spec: Mapping[str, Any],
) -> AsyncGenerator[tuple[Any, Any], None]:
    """Yield (item, result) of a job, and cancel it where nobody takes the rest."""
    values = values_of_items(items)
    if not values:
        return
    wanted = {"on_error": "skip", **spec} if return_exceptions else dict(spec)
    # Whoever stops while it is sent needs its id to cancel it.
    sending = asyncio.ensure_future(swarm.submit(function, values, **wanted))
    is_whole = False
    try:
        job = await asyncio.shield(sending)
        found = outcomes_of(swarm, job, len(values), ordered=ordered, timeout=timeout)
        async with telling_of(swarm, job, progress), aclosing(found):
            async for item, outcome in found:
                if is_failure(outcome) and not return_exceptions:
                    raise outcome
                yield values[item], outcome
        is_whole = True
    except JobFailedError:
        is_whole = True
        raise
    finally:
        if not is_whole:
            await cancel_sent(swarm, sending)


@asynccontextmanager
async def telling_of(swarm: "AsyncSwarm", job_id: str, progress: Progress) -> AsyncIterator[None]:
    """Tell how far a job is while its results are read; its last status too, if all were."""
    if not progress:
        yield
        return
    waiting = asyncio.ensure_future(swarm.wait(job_id, progress=progress))
    try:
        yield
        await waiting
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def cancel_sent(swarm: "AsyncSwarm", sending: Awaitable[AnyJob]) -> None:
    """Cancel a job that nobody takes the results of, once it is known which one it is."""
    # It ended, was never taken, or goes on unread; why nobody wants it is told elsewhere.
    with contextlib.suppress(ClientError, TimeoutError):
        async with asyncio.timeout(_CANCEL_WITHIN_S):
            await swarm.cancel(await sending)


async def outcomes_of(
    swarm: "AsyncSwarm",
    job_id: str,
    n_items: int,
    *,
    ordered: bool,
    timeout: float | None = None,
) -> AsyncGenerator[tuple[int, Any], None]:
    """Yield (number, outcome) of each item; RemoteError stands for those that were given up."""
    seen = array("b", bytes(n_items))
    next_item, waiting = 0, {}
    async with aclosing(swarm.results(job_id, timeout=timeout)) as shards:
        async for shard in shards:
            for item, outcome in enumerate(shard.value, shard.first_item):
                if item >= n_items:
                    raise ClientError(f"job {job_id} has more items than were sent")
                seen[item] = 1
                if not ordered:
                    yield item, outcome
                    continue
                waiting[item] = outcome
            while next_item in waiting:
                yield next_item, waiting.pop(next_item)
                next_item += 1
    if 0 in seen:
        failures = [each async for each in swarm.failures(job_id)]
        for each in failures:
            for item in range(each.first_item, min(each.first_item + each.n_items, n_items)):
                if not seen[item]:
                    seen[item] = 1
                    waiting[item] = _given_up(each.text, item, each.nodes)
    for item in sorted(waiting):
        yield item, waiting[item]
    if 0 in seen:
        raise ClientError(f"job {job_id} has no result for item {seen.index(0)}")


def _given_up(text: str, item: int, nodes: tuple[str, ...]) -> RemoteError:
    error = RemoteError(f"item {item}: {text}", "")
    error.item = item  # type: ignore[attr-defined]
    error.node = nodes[0] if nodes else None  # type: ignore[attr-defined]
    return error
