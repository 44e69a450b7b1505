"""What the shards of a job gave, as they finish: many with one request."""

import base64
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

from swarm_hub.client.gateways import Gateways, as_bytes
from swarm_hub.client.job_events import job_events
from swarm_hub.client.records import ShardResult
from swarm_hub.client.submission import is_of_functions

_AT_ONCE: Final = 500
_NUMBERS: Final = ("sum", "min", "max")
_JSON: Final = ("json", "list")


# (what a shard gave, what is told of it) → its value.
Read = Callable[[bytes, Mapping[str, Any]], Any]


def reader_of(status: Mapping[str, Any]) -> Read:
    """Return what reads the results of a job's shards."""
    if is_of_functions(status):
        from swarm_hub.client.functions.answers import outcomes

        return lambda body, told: outcomes(
            body, told["first_item"], told["n_items"], told["node"] or told["node_id"]
        )
    return lambda body, _told: _value(body, status["reduce"])


async def results_of(
    hub: Gateways, job_id: str, read: "Read", gather_s: float
) -> AsyncGenerator[list[ShardResult], None]:
    """Yield the results of a job's shards, each once, in lists, until the job has ended."""
    seen: set[int] = set()
    async with aclosing(job_events(hub, job_id, gather_s)) as happening:
        async for events in happening:
            done = [e["data"]["index"] for e in events if e["event_type"] == "shard_done"]
            new = [index for index in dict.fromkeys(done) if index not in seen]
            seen.update(new)
            for start in range(0, len(new), _AT_ONCE):
                yield await fetched(hub, job_id, read, new[start : start + _AT_ONCE])


async def values_of(
    found: AsyncGenerator[list[ShardResult], None], *, ordered: bool
) -> AsyncGenerator[ShardResult, None]:
    """Yield results one by one; `ordered` in the order of their items.

    Where items were left out of a job, those behind them come at its end.
    """
    waiting: dict[int, ShardResult] = {}
    next_item = 0
    async with aclosing(found):
        async for some in found:
            if not ordered:
                for each in some:
                    yield each
                continue
            waiting.update((each.first_item, each) for each in some)
            while (first := waiting.pop(next_item, None)) is not None:
                next_item += first.n_items
                yield first
    for _, left in sorted(waiting.items()):
        yield left


async def fetched(
    hub: Gateways, job_id: str, read: "Read", indexes: list[int]
) -> list[ShardResult]:
    """Return what shards that are done gave, with one request unless it is large."""
    query = {"shards": ",".join(map(str, indexes))}
    answer = await hub.ask("GET", f"/jobs/{job_id}/results", params=query)
    found = []
    for told in answer["results"]:
        if told["text"] is not None:
            body = told["text"].encode()
        elif told["base64"] is not None:
            body = base64.b64decode(told["base64"])
        else:
            # A large one comes by itself.
            path = f"/jobs/{job_id}/shards/{told['index']}/result"
            body = await hub.ask("GET", path, read=as_bytes)
        rest = {key: told[key] for key in ("index", "first_item", "n_items", "node_id", "node")}
        found.append(ShardResult(rest, value=read(body, rest)))
    return found


def _value(body: bytes, reduce: str) -> Any:
    """Return what a shard gave as the job's reduce would read it, else the bytes."""
    if reduce not in (*_NUMBERS, *_JSON):
        return body
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        pass
    try:
        # Such as `+1` or `.5`, which are no JSON; and a list has text as text.
        return float(body) if reduce in _NUMBERS else body.decode()
    except ValueError:
        return body
