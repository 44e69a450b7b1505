"""Requests to a hub's REST API as any client would send them, and its websocket."""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp

from tests.conftest import RunningHub


async def call(
    hub: RunningHub, method: str, path: str, *, token: str | None = "", **options: Any
) -> tuple[int, Any]:
    """Return (status, body) of one request; the hub's own token unless told otherwise."""
    secret = hub.token if token == "" else token
    headers = dict(options.pop("headers", {}))
    if secret is not None:
        headers.setdefault("Authorization", f"Bearer {secret}")
    url = f"{hub.url}/api/v1{path}"
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, headers=headers, **options) as response,
    ):
        body = await response.read()
        is_json = response.content_type == "application/json"
        return response.status, _strict(body) if is_json else body


def _strict(body: bytes) -> Any:
    """Read JSON as a client that is not Python's would: NaN and Infinity are no JSON."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} in {body!r}")

    return json.loads(body, parse_constant=refuse)


def form(
    module: bytes | None, dataset: bytes | list[bytes] | None = None, spec: Any = None
) -> aiohttp.FormData:
    """Return a multipart submission; a spec given as text is sent as it is."""
    made = aiohttp.FormData()
    if module is not None:
        made.add_field("module", module, filename="module.wasm")
    for number, body in enumerate([dataset] if isinstance(dataset, bytes) else dataset or []):
        made.add_field("dataset", body, filename=f"{number}.bin")
    if spec is not None:
        text = spec if isinstance(spec, str) else json.dumps(spec)
        made.add_field("spec", text, content_type="application/json")
    return made


async def submit_files(
    hub: RunningHub, module: bytes, files: Mapping[str, bytes], spec: Any = None
) -> str:
    """Submit a job on files with names; returns its id."""
    made = form(module, None, spec or {})
    for name, body in files.items():
        made.add_field("dataset", body, filename=name)
    code, answer = await call(hub, "POST", "/jobs", data=made)
    assert code == 202, answer
    return str(answer["job_id"])


async def submit(
    hub: RunningHub, module: bytes | None, dataset: Any = None, spec: Any = None, **options: Any
) -> tuple[int, Any]:
    """Submit a job; returns (status, body)."""
    return await call(hub, "POST", "/jobs", data=form(module, dataset, spec), **options)


async def finished(hub: RunningHub, job_id: str) -> dict[str, Any]:
    """Return the last status of a job."""
    while True:
        _, status = await call(hub, "GET", f"/jobs/{job_id}?wait=10")
        if status["state"] in ("completed", "failed", "cancelled"):
            return status


class Live:
    """A websocket client that keeps what it was sent."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self._id = 0

    async def receive(self) -> Any:
        return await self.socket.receive_json(timeout=90)

    async def command(self, kind: str, **fields: Any) -> Any:
        """Send a command and return the next message."""
        self._id += 1
        await self.socket.send_json({"id": self._id, "type": kind, **fields})
        return await self.receive()


@contextlib.asynccontextmanager
async def live(hub: RunningHub, token: str | None = "", **options: Any) -> AsyncIterator[Live]:
    """Open a websocket; with `token=None` before it is authenticated."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{hub.url}/api/websocket", **options) as socket,
    ):
        client = Live(socket)
        assert (await client.receive())["type"] == "auth_required"
        if token is not None:
            await socket.send_json({"type": "auth", "access_token": token or hub.token})
            assert (await client.receive())["type"] == "auth_ok"
        yield client
