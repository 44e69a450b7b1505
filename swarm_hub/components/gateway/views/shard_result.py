"""The views of the results of shards, which are there before the job has ended."""

import base64
import mmap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import voluptuous as vol

from swarm_hub.components.gateway.service import JobService
from swarm_hub.components.gateway.shapes import ShardValue, ShardValues
from swarm_hub.core import Hub
from swarm_hub.endpoints import Blob, Json, Request, Scope, View
from swarm_hub.exceptions import Gone, Lost, NotFound
from swarm_hub.models.shard import ShardResult
from swarm_hub.storage.queries import nodes, shard_results
from swarm_hub.util.described import described

_DIGITS_MAX: Final = 9
_SHARDS_MAX: Final = 500
# Of all results of one answer; those beyond are left out of it, as large ones are.
_TOLD_MAX_BYTES: Final = 4 * 1024 * 1024


def views(hub: Hub, service: JobService) -> list[View]:
    """Return the views."""
    own = _ShardResults(hub, service)
    job, shards = "/jobs/{job_id}", {vol.Required("shards"): _indexes}
    return [
        View(
            "GET", f"{job}/shards/{{index}}/result", own.one, Scope.READ, bytes, errors=(Gone,),
            versioned=True,
        ),
        View("GET", f"{job}/results", own.several, Scope.READ, ShardValues, shards, errors=(Gone,)),
    ]  # fmt: skip


@described(
    {
        "type": "string",
        "pattern": f"^[0-9]{{1,{_DIGITS_MAX}}}(,[0-9]{{1,{_DIGITS_MAX}}}){{0,{_SHARDS_MAX - 1}}}$",
        "examples": ["0,1,2"],
    }
)
def _indexes(value: Any) -> list[int]:
    """Validate the indexes of shards, with commas between them."""
    texts = str(value).split(",")
    if len(texts) > _SHARDS_MAX or not all(map(_is_index, texts)):
        raise vol.Invalid(
            f"expected the indexes of at most {_SHARDS_MAX} shards, with commas between them"
        )
    return list(dict.fromkeys(map(int, texts)))


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX


class _ShardResults:
    def __init__(self, hub: Hub, service: JobService) -> None:
        self._hub = hub
        self._service = service

    async def _check_owner(self, request: Request) -> str:
        job_id, caller = request.path["job_id"], request.caller
        assert caller is not None, "the scope asks for a token"
        if not caller.sees_all:
            await self._service.check_owner(job_id, caller.account)
        return job_id

    @asynccontextmanager
    async def _reading(self, result: ShardResult) -> AsyncIterator[bytes | mmap.mmap]:
        if result.body is not None:
            yield result.body
            return
        async with self._hub.store.blobs.reading(result.sha) as body:
            if body is None:
                raise Lost("result_lost", f"the result of {result.assignment_id} is gone")
            yield body

    async def one(self, request: Request) -> Blob:
        """Return the bytes that a shard gave, as soon as they count; folded they are the job's."""
        job_id, index = await self._check_owner(request), request.path["index"]
        result = None
        if _is_index(index):
            result = await self._hub.store.read(shard_results.of_shard, job_id, int(index))
        if result is None:
            # For a job that there is not, this says so.
            await self._service.status(job_id, 0)
            raise NotFound("no_result", f"shard {index} of job {job_id} has no result that counts")
        return Blob(await request.enter(self._reading(result)), etag=result.sha)

    async def several(self, request: Request) -> Json:
        """Return what several shards gave; those that have no result yet are left out."""
        job_id, indexes = await self._check_owner(request), request.query["shards"]
        found = await self._hub.store.read(shard_results.of_shards, job_id, indexes)
        if not found:
            await self._service.status(job_id, 0)
        node_ids = sorted({each.node_id for each in found.values()})
        names = await self._hub.store.read(nodes.names_of, node_ids) if node_ids else {}
        told: list[ShardValue] = []
        left_bytes = _TOLD_MAX_BYTES
        for index in indexes:
            if (result := found.get(index)) is None:
                continue
            fits = result.body is not None and len(result.body) <= left_bytes
            body = result.body if fits else None
            left_bytes -= len(body or b"")
            told.append(_told(result, body, names.get(result.node_id) or None))
        values: ShardValues = {"results": told}
        return Json(values)


def _told(result: ShardResult, body: bytes | None, node: str | None) -> ShardValue:
    text = encoded = None
    if body is not None:
        try:
            text = body.decode()
        except UnicodeDecodeError:
            encoded = base64.b64encode(body).decode()
    return {
        "index": result.index,
        "first_item": result.first_item,
        "n_items": result.n_items,
        "node_id": result.node_id,
        "node": node,
        "size_bytes": result.size_bytes,
        "text": text,
        "base64": encoded,
    }
