"""The view of what a module is for, before it is submitted."""

from typing import Final, cast

from swarm_hub.components.gateway.service import JobService
from swarm_hub.components.gateway.shapes import ModuleShape
from swarm_hub.endpoints import ANY_TYPE, Json, RawBody, Request, Scope, View
from swarm_hub.exceptions import Busy, MalformedRequest, TooLarge
from swarm_hub.util.bounds import shown

_MULTIPART: Final = "multipart/form-data"
_BODY: Final = RawBody({ANY_TYPE: "a module, binary or WAT text", _MULTIPART: "module"})
# Each takes a child of the sandbox, which shards of this hub need, too.
_AT_ONCE: Final = 4
_RETRY_AFTER_S: Final = 2


def view(service: JobService) -> View:
    """Return the view."""
    inspecting = 0

    async def inspect(request: Request) -> Json:
        """Tell what a module exports and needs, and how it can be called."""
        nonlocal inspecting
        if inspecting >= _AT_ONCE:
            raise Busy(
                "busy",
                f"{_AT_ONCE} modules are inspected at this moment; try again",
                retry_after_s=_RETRY_AFTER_S,
            )
        inspecting += 1
        try:
            sha, report = await service.inspect(await _module(request, service.module_bytes_max))
        finally:
            inspecting -= 1
        return Json(cast(ModuleShape, {"sha256": sha, **report.to_plain()}))

    return View("POST", "/modules/inspect", inspect, Scope.SUBMIT, ModuleShape, body=_BODY)


async def _module(request: Request, most_bytes: int) -> bytes:
    body = bytearray()
    if request.media_type != _MULTIPART:
        async for chunk in request.chunks(request.max_bytes):
            _add(body, chunk, most_bytes)
        return bytes(body)
    async for part in request.parts():
        if part.name != "module" or body:
            raise MalformedRequest(
                "bad_multipart", f"expected the part module alone, not {shown(part.name)}"
            )
        while chunk := await part.read_chunk():
            _add(body, chunk, most_bytes)
    return bytes(body)


def _add(body: bytearray, chunk: bytes, most_bytes: int) -> None:
    body += chunk
    if len(body) > most_bytes:
        raise TooLarge(
            "module_too_large", f"the module is larger than {most_bytes} bytes (sandbox: module)"
        )
