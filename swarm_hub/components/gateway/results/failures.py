"""What failed of a job, told with the places of its items and the names of its nodes."""

import asyncio
import contextlib
import dataclasses
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from swarm_hub.components.gateway.results.failure_texts import (
    LINE_MAX_CHARS,
    Failing,
    line,
    names_of,
    reason,
)
from swarm_hub.components.gateway.shapes import FailureShape, FailureState
from swarm_hub.components.gateway.submission.places import Parts, place
from swarm_hub.components.scheduler import ItemsFailed, JobEntry
from swarm_hub.core import Hub
from swarm_hub.exceptions import PASSING_ERRORS, StoreError
from swarm_hub.models.job import Job
from swarm_hub.models.shard import ShardState
from swarm_hub.storage.queries import failures, nodes
from swarm_hub.storage.queries.failures import FailedShard

_LOGGER = logging.getLogger(__name__)

# What ends a job waits no longer for names.
_TOLD_WITHIN_S: Final = 5.0
_PROBLEMS_KEPT: Final = 1000
_STATES: Final[dict[ShardState, FailureState]] = {
    ShardState.SKIPPED: "skipped",
    ShardState.DEAD: "failed",
    ShardState.CANCELLED: "cancelled",
}


@dataclass(frozen=True, slots=True)
class _Problem:
    """A problem as it was told; `of` is what it was told of."""

    of: tuple[ItemsFailed, int]
    told: str


class Failures:
    """Tells the failures of jobs to people."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        # By job: a status is asked for often, and a problem seldom changes.
        self._problems: OrderedDict[str, _Problem] = OrderedDict()

    async def told(self, job: Job, found: Sequence[ItemsFailed | str]) -> tuple[str, ...]:
        """Return why a job ended, in words; a fault here leaves places and names out."""
        try:
            async with asyncio.timeout(_TOLD_WITHIN_S):
                return await self._told(job, found)
        except (TimeoutError, *PASSING_ERRORS):
            _LOGGER.warning(
                "The failures of job %s are told without places and names: the store is away",
                job.id,
            )
            return tuple(map(_crude, found))
        except Exception:
            _LOGGER.exception("The failures of job %s are told without places and names", job.id)
            return tuple(map(_crude, found))

    async def problem(self, job: Job, entry: JobEntry) -> str | None:
        """Return the last failure of an unfinished job; None once its items are done."""
        if entry.ended or (found := _last_failure(entry)) is None:
            self._problems.pop(job.id, None)
            return None
        known = self._problems.get(job.id)
        if known is None or known.of != found:
            failed, n_tries = found
            (told,) = await self.told(job, (failed,))
            times = "once" if n_tries == 1 else f"{n_tries} times"
            known = _Problem(found, f"{told}; tried {times} so far")
            self._problems[job.id] = known
            if len(self._problems) > _PROBLEMS_KEPT:
                self._problems.popitem(last=False)
        return known.told

    async def page(self, job: Job, after: int, limit: int) -> list[FailureShape]:
        """Return up to `limit` ranges of items that failed, those that begin after that item."""
        found = await self._hub.store.read(failures.page, job.id, after, limit)
        if not found:
            return []
        known = await self._names(node_id for each in found for node_id, _ in each.failures)
        async with self._parts(job) as parts:
            return [_described(job, parts, each, known) for each in found]

    async def _told(self, job: Job, found: Sequence[ItemsFailed | str]) -> tuple[str, ...]:
        found = _merged(found)
        failed = [each for each in found if isinstance(each, ItemsFailed)]
        known = await self._names(node_id for each in failed for node_id in each.node_ids)
        async with self._parts(job) as parts:
            return tuple(
                each[:LINE_MAX_CHARS] if isinstance(each, str) else _line(job, parts, each, known)
                for each in found
            )

    async def _names(self, node_ids: Iterable[str]) -> dict[str, str]:
        return await self._hub.store.read(nodes.names_of, sorted(set(node_ids)))

    @contextlib.asynccontextmanager
    async def _parts(self, job: Job) -> AsyncIterator[Parts | None]:
        """Give the index of the files of a job's dataset, None if there is none."""
        if job.parts_sha is None:
            yield None
            return
        async with contextlib.AsyncExitStack() as opened:
            reading = self._hub.store.blobs.reading(job.parts_sha)
            try:
                index = await opened.enter_async_context(reading)
            except StoreError as error:
                _LOGGER.warning("The names of the files of job %s are lost: %s", job.id, error)
                index = None
            yield None if index is None else Parts(index)


def _merged(found: Sequence[ItemsFailed | str]) -> list[ItemsFailed | str]:
    """Return each failure once with all its nodes; texts may differ in what is not told."""
    merged: dict[object, ItemsFailed | str] = {}
    for each in found:
        key: object = each
        if isinstance(each, ItemsFailed):
            key = each.first_item, each.n_items, reason(each.text)
            before = merged.get(key)
            if isinstance(before, ItemsFailed):
                node_ids = tuple(dict.fromkeys((*before.node_ids, *each.node_ids)))
                each = dataclasses.replace(before, node_ids=node_ids)
        merged[key] = each
    return list(merged.values())


def _last_failure(entry: JobEntry) -> tuple[ItemsFailed, int] | None:
    """Return the last failure of a job, and how often its items were tried.

    There is none once none of them is left to be done; those of a shard that was split are in
    others.
    """
    if entry.last_failure is None:
        return None
    shard, failure = entry.last_failure
    end = shard.first_item + shard.n_items
    if not any(
        each.first_item < end and shard.first_item < each.first_item + each.n_items
        for each in entry.shards.values()
    ):
        return None
    node_ids, n_tries = [failure.node_id], shard.attempts
    if (left := entry.shards.get(shard.index)) is not None:
        node_ids += [
            each.node_id for each in left.had.failures if reason(each.text) == reason(failure.text)
        ]
        n_tries = len(left.had.failures)
    unique = tuple(dict.fromkeys(node_ids))
    return ItemsFailed(shard.first_item, shard.n_items, failure.text, unique), n_tries


def _line(job: Job, parts: Parts | None, failed: ItemsFailed, known: dict[str, str]) -> str:
    where = place(job, parts, failed.first_item, failed.n_items)
    names = names_of(failed.node_ids, known)
    return line(Failing(failed.first_item, failed.n_items, where, failed.text, names))


def _crude(failed: ItemsFailed | str) -> str:
    if isinstance(failed, str):
        return failed[:LINE_MAX_CHARS]
    names = names_of(failed.node_ids, {})
    return line(Failing(failed.first_item, failed.n_items, None, failed.text, names))


def _described(
    job: Job, parts: Parts | None, failed: FailedShard, known: dict[str, str]
) -> FailureShape:
    """Return a shard that failed as clients see it: with the newest reason, and who gave it."""
    shard, text = failed.shard, reason(failed.failures[0][1])
    node_ids = list(dict.fromkeys(each for each, said in failed.failures if reason(said) == text))
    where = place(job, parts, shard.first_item, shard.n_items)
    failing = Failing(shard.first_item, shard.n_items, where, text, names_of(node_ids, known))
    return {
        "first_item": shard.first_item,
        "n_items": shard.n_items,
        "place": where,
        "state": _STATES.get(shard.state, "retrying"),
        "text": text,
        "nodes": [{"node_id": each, "name": known.get(each) or None} for each in node_ids],
        "n_failures": failed.n_failures,
        "shard": shard.index,
        "message": line(failing),
    }
