"""Routes of jobs."""

import base64
import binascii
import re
from contextlib import ExitStack
from typing import Any, Final

from aiohttp import BodyPartReader, web

from swarm_hub.components.api.access import TOKEN
from swarm_hub.components.api.ports import JOBS, JobsPort
from swarm_hub.components.api.replies import event_json, json_response, whole_number
from swarm_hub.core import Hub
from swarm_hub.exceptions import RequestError
from swarm_hub.models.submission import DatasetPart, Submission
from swarm_hub.util.strict_json import dump_json, parse_json

_STATUS_CODES: Final = {"queued": 202, "running": 206}
_WAIT_MAX_S: Final = 60
_PARTS_MAX: Final = 10_000
_CHUNK_BYTES: Final = 256 * 1024
_SPOOLED_BYTES: Final = 1024 * 1024
# What stands for a quote or a line break in a name (HTML, multipart/form-data encoding).
_ESCAPED: Final = re.compile(r"%(22|0D|0A)")
_PARAMETER: Final = re.compile(r';\s*(name|filename)="([^"]*)"', re.ASCII | re.IGNORECASE)
_IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,200}\Z", re.ASCII)
# In the seed's JSON a list of numbers stands for an i32 dataset.
_JSON_KEYS: Final = ("wasm_base64", "script", "dataset", "spec")


def routes(hub: Hub, request_max_bytes: int) -> list[web.RouteDef]:
    """Return the routes; they answer 503 on a hub that is no gateway."""
    views = _JobViews(hub, request_max_bytes)
    base = "/api/v1/jobs"
    return [
        web.post(base, views.submit),
        web.get(base, views.page),
        web.get(base + "/{job_id}", views.status),
        web.delete(base + "/{job_id}", views.cancel),
        web.get(base + "/{job_id}/result", views.result),
        web.get(base + "/{job_id}/shards", views.shards),
        web.get(base + "/{job_id}/receipts", views.receipts),
        web.get(base + "/{job_id}/story", views.story),
    ]


class _JobViews:
    def __init__(self, hub: Hub, request_max_bytes: int) -> None:
        self._hub = hub
        self._request_max_bytes = request_max_bytes

    @property
    def _jobs(self) -> JobsPort:
        service = self._hub.services.get(JOBS)
        if service is None:
            raise RequestError(503, "no_gateway", "this hub is no gateway; ask the one that is")
        return service

    async def submit(self, request: web.Request) -> web.Response:
        jobs = self._jobs
        key = request.headers.get("Idempotency-Key")
        if key is not None and not _IDEMPOTENCY_KEY.match(key):
            raise RequestError(
                400, "invalid_header", "Idempotency-Key: 1 to 200 visible ASCII characters"
            )
        # `request.content_type` parses the header with the email package, at 0.5 ms a request.
        media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if media_type == "multipart/form-data":
            with ExitStack() as spools:
                submission = await self._read_multipart(request, key, spools)
                submitted = await jobs.submit(submission)
        elif media_type == "application/json":
            submission = _read_json(await request.read(), request[TOKEN].id, key)
            submitted = await jobs.submit(submission)
        else:
            raise RequestError(
                415,
                "unsupported_media_type",
                "send multipart/form-data (module, dataset, spec) or application/json "
                "(wasm_base64, dataset, spec)",
            )
        base = f"/api/v1/jobs/{submitted.job_id}"
        response = json_response(
            {
                "job_id": submitted.job_id,
                "status": "pending_scheduler",
                "links": {"self": base, "result": f"{base}/result", "story": f"{base}/story"},
            },
            202,
        )
        response.headers["Location"] = base
        return response

    async def status(self, request: web.Request) -> web.Response:
        wait_s = whole_number(request, "wait", 0, 0, _WAIT_MAX_S)
        status = await self._jobs.status(request.match_info["job_id"], wait_s)
        return json_response(status, _STATUS_CODES.get(status["state"], 200))

    async def page(self, request: web.Request) -> web.Response:
        limit = whole_number(request, "limit", 50, 1, 500)
        found = await self._jobs.page(request.query.get("cursor"), limit)
        cursor = found[-1]["job_id"] if len(found) == limit else None
        return json_response({"jobs": found, "cursor": cursor})

    async def cancel(self, request: web.Request) -> web.Response:
        return json_response(await self._jobs.cancel(request.match_info["job_id"]))

    async def result(self, request: web.Request) -> web.Response:
        media_type, body = await self._jobs.result(request.match_info["job_id"])
        return web.Response(body=body, content_type=media_type)

    async def shards(self, request: web.Request) -> web.Response:
        return json_response({"shards": await self._jobs.shards(request.match_info["job_id"])})

    async def receipts(self, request: web.Request) -> web.Response:
        limit = whole_number(request, "limit", 100, 1, 500)
        cursor = request.query.get("cursor")
        return json_response(await self._jobs.receipts(request.match_info["job_id"], cursor, limit))

    async def story(self, request: web.Request) -> web.Response:
        after = whole_number(request, "after", 0, 0, 2**62)
        limit = whole_number(request, "limit", 1000, 1, 10_000)
        found = await self._jobs.story(request.match_info["job_id"], after, limit)
        return json_response({"events": [event_json(event) for event in found]})

    async def _read_multipart(
        self, request: web.Request, key: str | None, spools: ExitStack
    ) -> Submission:
        module, spec, script = b"", b"{}", None
        parts: list[DatasetPart] = []
        left = self._request_max_bytes
        try:
            async for part in await request.multipart():
                if not isinstance(part, BodyPartReader):
                    raise RequestError(400, "bad_multipart", "nested multipart is not taken")
                name, filename = _names(part)
                if name == "module":
                    module = await _read_part(part, left)
                    left -= len(module)
                elif name == "spec":
                    spec = await _read_part(part, left)
                    left -= len(spec)
                elif name == "script":
                    script = (filename, await _read_part(part, left))
                    left -= len(script[1])
                elif name == "dataset":
                    dataset = await self._read_dataset(part, filename, left, spools)
                    parts.append(dataset)
                    left -= len(dataset.body)
                else:
                    raise RequestError(
                        400,
                        "bad_multipart",
                        f"unknown part {name!r}; known: module, script, dataset, spec",
                    )
                if len(parts) > _PARTS_MAX:
                    raise RequestError(413, "too_many_files", f"at most {_PARTS_MAX} files")
        except ValueError as error:
            raise RequestError(400, "bad_multipart", f"not valid multipart: {error}") from None
        return Submission(module, tuple(parts), None, spec, request[TOKEN].id, key, script)

    async def _read_dataset(
        self, part: BodyPartReader, filename: str, left: int, spools: ExitStack
    ) -> DatasetPart:
        """Read an uploaded file; beyond 1 MiB it goes to disk as it comes."""
        start = bytearray()
        while chunk := await part.read_chunk(_CHUNK_BYTES):
            start += chunk
            if len(start) > min(left, _SPOOLED_BYTES):
                break
        else:
            return DatasetPart(filename, bytes(start))
        spool = spools.enter_context(self._hub.store.blobs.spool())
        chunk = bytes(start)
        while chunk:
            await spool.write(chunk)
            if spool.size_bytes > left:
                raise _too_large()
            chunk = await part.read_chunk(_CHUNK_BYTES)
        spooled = await spool.finish()
        return DatasetPart(filename, spool.mapped(), spooled)


def _names(part: BodyPartReader) -> tuple[str, str]:
    """Return the name and file name of a part (RFC 7578, section 4.2).

    aiohttp's own properties parse the header anew each time, at 0.3 ms each.
    """
    header = part.headers.get("Content-Disposition", "")
    found = {match[1].lower(): match[2] for match in _PARAMETER.finditer(header)}
    return found.get("name", ""), _ESCAPED.sub(
        lambda each: chr(int(each[1], 16)), found.get("filename", "")
    )


async def _read_part(part: BodyPartReader, left: int) -> bytes:
    body = bytearray()
    while chunk := await part.read_chunk(_CHUNK_BYTES):
        body += chunk
        if len(body) > left:
            raise _too_large()
    return bytes(body)


def _too_large() -> RequestError:
    return RequestError(413, "request_too_large", "the request is too large (see api: request)")


def _read_json(raw: bytes, owner: str, key: str | None) -> Submission:
    plain: Any = parse_json(raw, "request")
    if not isinstance(plain, dict):
        raise RequestError(400, "invalid_json", "request: expected an object")
    unknown = [name for name in plain if name not in _JSON_KEYS]
    if unknown:
        raise RequestError(
            422,
            "unknown_key",
            f"unknown key {unknown[0]!r}; known: {', '.join(_JSON_KEYS)}",
            [{"path": name, "message": "unknown key"} for name in unknown],
        )
    encoded = plain.get("wasm_base64")
    if not isinstance(encoded, str):
        raise RequestError(422, "no_module", "wasm_base64: expected the module as base64 text")
    try:
        module = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise RequestError(422, "no_module", "wasm_base64: not valid base64") from None
    spec = dump_json(plain.get("spec") or {})
    script = plain.get("script")
    if script is not None and not _is_script(script):
        raise RequestError(422, "no_script", "script: expected {name: text, text: text}")
    return Submission(
        module, (), plain.get("dataset"), spec, owner, key,
        None if script is None else (script["name"], script["text"].encode()),
    )  # fmt: skip


def _is_script(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"name", "text"}
        and all(isinstance(each, str) for each in value.values())
    )
