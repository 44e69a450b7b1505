"""The view that takes jobs in: a form, CBOR for small ones, JSON as Swarm Runtime's clients do."""

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Final

from swarm_hub.components.gateway.service import JobService
from swarm_hub.components.gateway.shapes import JobStatus, SubmittedShape
from swarm_hub.components.gateway.submission import uploaded_archive
from swarm_hub.components.gateway.submission.spec import SPEC_MAX_BYTES
from swarm_hub.components.gateway.submission.uploads import Uploads
from swarm_hub.components.gateway.views import submission_shapes
from swarm_hub.components.gateway.views.jobs import WAIT, links, told
from swarm_hub.components.gateway.views.named_blobs import FILE_NAME_MAX_CHARS, NamedBlobs
from swarm_hub.core import Hub
from swarm_hub.endpoints import Json, Lines, Part, RawBody, Request, Scope, Success, View
from swarm_hub.exceptions import Conflict, InvalidInput, MalformedRequest, NotFound, TooLarge
from swarm_hub.models.blob import Slice
from swarm_hub.models.call import SCRIPT_BYTES_MAX
from swarm_hub.models.submission import DatasetPart, Submission
from swarm_hub.storage import Spool, Store
from swarm_hub.util.bounds import is_text, shown
from swarm_hub.util.strict_cbor import parse_cbor
from swarm_hub.util.strict_json import dump_json, parse_json

_PARTS_MAX: Final = 10_000
_SPOOLED_BYTES: Final = 1024 * 1024
_HELD_BYTES: Final = 8 * 1024 * 1024
# Of a job that is sent as CBOR; beyond, a form is read piece by piece.
SMALL_MAX_BYTES: Final = 1024 * 1024
_IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,200}\Z", re.ASCII)
# In Swarm Runtime's JSON a list of numbers stands for an i32 dataset.
JSON_KEYS: Final = ("wasm_base64", "module_sha", "script", "dataset", "dataset_sha", "spec")
_CBOR_KEYS: Final = ("module", "module_sha", "script", "dataset", "dataset_sha", "spec")
# What Swarm Runtime's later clients send: a module, and texts that its command gets as arguments.
_RUNTIME_PARTS: Final = {"wasm": "module"}
_RUNTIME_SPEC: Final = b'{"split":"args"}'
_METADATA_MAX_BYTES: Final = 4 * 1024 * 1024
_INTERPRETER: Final = "POLYGLOT:"
# 64 digits, and white space around them.
_SHA_BYTES: Final = 100
_MULTIPART: Final = "multipart/form-data"
_CBOR: Final = "application/cbor"
_BODY: Final = RawBody(
    {
        _MULTIPART: "module, dataset or files, spec; module_sha and dataset_sha of blobs",
        _CBOR: "module, dataset, spec; 1 MiB at most",
        "application/json": "wasm_base64, dataset, spec",
    },
    submission_shapes.SCHEMAS,
    submission_shapes.EXAMPLES,
)


def view(hub: Hub, service: JobService, uploads: Uploads) -> View:
    """Return the view."""

    async def submit(request: Request) -> Json | Lines:
        """Take a job in; it is durable when this answers.

        With `wait` a second line follows: its status when it has ended, or after so many seconds.
        """
        key = idempotency_key(request)
        assert request.caller is not None, "the scope asks for a token"
        owner = request.caller.account
        async with AsyncExitStack() as files:
            named = NamedBlobs(uploads, owner, files)
            if request.media_type == _MULTIPART:
                form = _Form(hub.store, request, named, files, service.module_bytes_max)
                submission = await form.read(owner, key)
            elif request.media_type == _CBOR:
                raw = await request.read(SMALL_MAX_BYTES)
                submission = await _read_cbor(named, raw, owner, key)
            else:
                submission = await _read_json(named, await request.read(), owner, key)
            submitted = await service.submit(submission)
        answer = submitted_shape(request, submitted.job_id)
        if wait_s := request.query.get("wait", 0):
            return Lines(to_the_end(request, answer, wait_s))
        return Json(answer, Success.ACCEPTED, f"/jobs/{submitted.job_id}")

    async def to_the_end(
        request: Request, taken: SubmittedShape, wait_s: int
    ) -> AsyncIterator[Any]:
        yield taken
        yield told(request, await service.ended(taken["job_id"], wait_s))

    return View(
        "POST", "/jobs", submit, Scope.SUBMIT, SubmittedShape, WAIT, _BODY,
        lines=(SubmittedShape, JobStatus), successes=(Success.ACCEPTED,),
        errors=(Conflict, NotFound), request_headers=submission_shapes.HEADERS,
    )  # fmt: skip


def idempotency_key(request: Request) -> str | None:
    """Return the key under which a request takes effect once, None without one."""
    key = request.header("Idempotency-Key")
    if key is not None and not _IDEMPOTENCY_KEY.match(key):
        raise MalformedRequest(
            "invalid_header", "Idempotency-Key: 1 to 200 visible ASCII characters"
        )
    return key


def submitted_shape(request: Request, job_id: str) -> SubmittedShape:
    """Return what is said of a job that was taken in."""
    every = links(request, job_id)
    return {
        "job_id": job_id,
        "status": "pending_scheduler",
        "links": {name: every[name] for name in ("self", "result", "story")},
    }


class _Form:
    """A multipart body as it is read, within the size of a request."""

    def __init__(
        self,
        store: Store,
        request: Request,
        named: NamedBlobs,
        files: AsyncExitStack,
        module_bytes_max: int,
    ) -> None:
        self._store = store
        self._request = request
        self._named = named
        self._files = files
        self._left = request.max_bytes
        # Of small files that are in memory; further ones go to a file that they share.
        self._held_bytes = 0
        self._shared: Spool | None = None
        # Of each part that is kept in memory.
        self._most_bytes = {
            "module": module_bytes_max, "spec": SPEC_MAX_BYTES, "script": SCRIPT_BYTES_MAX,
            "module_sha": _SHA_BYTES, "dataset_sha": _SHA_BYTES, "metadata": _METADATA_MAX_BYTES,
        }  # fmt: skip

    async def read(self, owner: str, key: str | None) -> Submission:
        """Return what was submitted."""
        whole: dict[str, bytes] = {}
        script_name = ""
        dataset: list[DatasetPart] = []
        async for part in self._request.parts():
            if part.name == "dataset":
                if len(dataset) >= _PARTS_MAX:
                    raise _too_many_files()
                dataset.append(await self._read_dataset(part))
                continue
            if part.name == "files":
                packed = await self._read_dataset(part)
                dataset += await asyncio.to_thread(uploaded_archive.unpack, packed.body)
                continue
            name = _RUNTIME_PARTS.get(part.name, part.name)
            if name not in self._most_bytes:
                raise MalformedRequest(
                    "bad_multipart",
                    f"unknown part {shown(part.name)}; known: module, module_sha, script, dataset, "
                    "dataset_sha, files, spec",
                )
            if part.name == "dataset_sha":
                dataset.append(await self._named.dataset(part.filename, await self._read_sha(part)))
                continue
            if name in whole:
                raise MalformedRequest("bad_multipart", f"the part {name} is there twice")
            whole[name] = await self._read_part(part, name)
            if name == "script":
                script_name = part.filename
        if self._shared is not None:
            await self._shared.finish()
        module = whole.get("module", b"")
        if "module_sha" in whole and not module:
            module = await self._named.module(_text(whole["module_sha"]))
        _check_no_interpreter(module[:FILE_NAME_MAX_CHARS].decode("ascii", "replace"))
        values, spec = None, whole.get("spec", b"{}")
        if "metadata" in whole:
            values, spec = _from_metadata(whole["metadata"]), whole.get("spec", _RUNTIME_SPEC)
            if dataset:
                raise MalformedRequest("bad_multipart", "give metadata or a dataset, not both")
        return Submission(
            module, tuple(dataset), values, spec, owner, key,
            (script_name, whole["script"]) if "script" in whole else None,
        )  # fmt: skip

    async def _read_part(self, part: Part, name: str) -> bytes:
        most_bytes = self._most_bytes[name]
        body = bytearray()
        while chunk := await part.read_chunk():
            body += chunk
            self._check(len(body))
            if len(body) > most_bytes:
                raise TooLarge(
                    f"{name}_too_large",
                    f"the {name} is larger than {most_bytes} bytes"
                    + (" (sandbox: module)" if name == "module" else ""),
                )
        self._left -= len(body)
        return bytes(body)

    async def _read_sha(self, part: Part) -> str:
        return _text(await self._read_part(part, part.name))

    async def _read_dataset(self, part: Part) -> DatasetPart:
        """Read an uploaded file; beyond 1 MiB it goes to disk as it comes."""
        start = bytearray()
        while chunk := await part.read_chunk():
            start += chunk
            if len(start) > min(self._left, _SPOOLED_BYTES):
                break
        else:
            self._left -= len(start)
            self._held_bytes += len(start)
            if self._held_bytes <= _HELD_BYTES:
                return DatasetPart(part.filename, bytes(start))
            return DatasetPart(part.filename, await self._shelve(bytes(start)))
        spool = self._files.enter_context(self._store.blobs.spool())
        chunk = bytes(start)
        while chunk:
            await spool.write(chunk)
            self._check(spool.size_bytes)
            chunk = await part.read_chunk()
        self._left -= spool.size_bytes
        spooled = await spool.finish()
        return DatasetPart(part.filename, spool.mapped(), spooled)

    async def _shelve(self, body: bytes) -> Slice:
        """Write a small file into the one that they share; it can be read once that is finished."""
        if self._shared is None:
            self._shared = self._files.enter_context(self._store.blobs.spool())
        at = self._shared.size_bytes
        await self._shared.write(body)
        return Slice(self._shared, at, at + len(body))

    def _check(self, size_bytes: int) -> None:
        if size_bytes > self._left:
            raise TooLarge("request_too_large", "the request is too large (see api: request)")


async def _read_json(named: NamedBlobs, raw: bytes, owner: str, key: str | None) -> Submission:
    plain: Any = parse_json(raw, "request")
    if not isinstance(plain, dict):
        raise MalformedRequest("invalid_json", "request: expected an object")
    unknown = [name for name in plain if name not in JSON_KEYS]
    if unknown:
        raise InvalidInput(
            "unknown_key",
            f"unknown key {unknown[0]!r}; known: {', '.join(JSON_KEYS)}",
            [{"path": name, "message": "unknown key"} for name in unknown],
        )
    encoded, sha = plain.get("wasm_base64"), plain.get("module_sha")
    if sha is not None and encoded is None:
        module = await named.module(sha)
    elif encoded is None and plain.get("script") is not None:
        # A program, which a runtime of the gateway interprets.
        module = b""
    else:
        module = _from_base64(encoded)
    spec = dump_json(plain.get("spec", {}))
    script = plain.get("script")
    if script is not None and not _is_script(script):
        raise InvalidInput("no_script", "script: expected {name: text, text: text}")
    parts = await named.datasets(plain.get("dataset_sha"))
    if parts and plain.get("dataset") is not None:
        raise InvalidInput("no_dataset", "dataset: give values or dataset_sha, not both")
    return Submission(
        module, parts, plain.get("dataset"), spec, owner, key,
        None if script is None else (script["name"], script["text"].encode()),
    )  # fmt: skip


def _from_metadata(raw: bytes) -> list[Any]:
    plain = parse_json(raw, "metadata")
    values = plain.get("dataset") if isinstance(plain, dict) else None
    if not isinstance(values, list):
        raise InvalidInput("no_dataset", 'metadata: expected {"dataset": [text, …]}')
    return values


def _check_no_interpreter(module: str) -> None:
    """Refuse what Swarm Runtime's clients send for a program in a language, in a module's place."""
    if module.startswith(_INTERPRETER):
        raise InvalidInput(
            "no_interpreter",
            f"{shown(module)} asks for an interpreter in the module's place; leave the module out "
            "and send the program as the script: swarm-hub submit PROGRAM, or with an interpreter "
            "of your own: swarm-hub submit --with INTERPRETER.wasm PROGRAM",
        )


def _from_base64(encoded: object) -> bytes:
    if not isinstance(encoded, str):
        raise InvalidInput("no_module", "wasm_base64: expected the module as base64 text")
    _check_no_interpreter(encoded[:FILE_NAME_MAX_CHARS])
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("no_module", "wasm_base64: not valid base64") from None


async def _read_cbor(named: NamedBlobs, raw: bytes, owner: str, key: str | None) -> Submission:
    try:
        plain = parse_cbor(raw)
    except ValueError as error:
        raise MalformedRequest("invalid_cbor", f"request: {error}") from None
    if not isinstance(plain, dict):
        raise MalformedRequest("invalid_cbor", "request: expected a map")
    if unknown := [name for name in plain if name not in _CBOR_KEYS]:
        raise InvalidInput(
            "unknown_key", f"unknown key {shown(unknown[0])}; known: {', '.join(_CBOR_KEYS)}"
        )
    module, sha = plain.get("module"), plain.get("module_sha")
    if sha is not None and module is None:
        module = await named.module(sha)
    if module is None and plain.get("script") is not None:
        # A program, which a runtime of the gateway interprets.
        module = b""
    if not isinstance(module, bytes):
        raise InvalidInput("no_module", "module: expected the module's bytes, or module_sha")
    try:
        spec = dump_json(plain.get("spec", {}))
    except (TypeError, ValueError):
        raise InvalidInput("invalid_spec", "spec: expected what JSON can say") from None
    script = plain.get("script")
    if script is not None and not _is_named(script):
        raise InvalidInput("no_script", "script: expected [name, bytes]")
    dataset = plain.get("dataset", [])
    if not isinstance(dataset, list) or not all(map(_is_named, dataset)):
        raise InvalidInput("no_dataset", "dataset: expected a list of [name, bytes]")
    if len(dataset) > _PARTS_MAX:
        raise _too_many_files()
    parts = tuple(DatasetPart(name, body) for name, body in dataset)
    parts += await named.datasets(plain.get("dataset_sha"))
    text = None if script is None else (script[0], script[1])
    return Submission(module, parts, None, spec, owner, key, text)


def _text(raw: bytes) -> str:
    return raw.decode("ascii", "replace").strip()


def _too_many_files() -> TooLarge:
    return TooLarge(
        "too_many_files",
        f"at most {_PARTS_MAX} files; send them as a tar archive in the part `files` of a form",
    )


def _is_named(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and is_text(value[0], FILE_NAME_MAX_CHARS)
        and isinstance(value[1], bytes)
    )


def _is_script(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"name", "text"}
        and all(isinstance(each, str) for each in value.values())
    )
