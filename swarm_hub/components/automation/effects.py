"""What the actions do; each may be done again after a kill, with the same key."""

import asyncio
import logging
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import IO, Any, Final

from swarm_hub.components.automation import webhook
from swarm_hub.components.automation.actions import RESULT
from swarm_hub.components.automation.model import Allowed
from swarm_hub.components.automation.webhook import TryAgain
from swarm_hub.components.gateway import FLEET, JOBS
from swarm_hub.core import Hub
from swarm_hub.exceptions import (
    PASSING_ERRORS,
    Busy,
    Conflict,
    HubError,
    LimitReached,
    StorageFull,
)
from swarm_hub.models.event import EventType, NewEvent
from swarm_hub.models.submission import DatasetPart, Submission
from swarm_hub.storage.queries.automations import Run
from swarm_hub.util.hashing import SHA256_HEX
from swarm_hub.util.programs import said_by
from swarm_hub.util.strict_json import dump_json

_LOGGER = logging.getLogger(__name__)

_FILE_MAX_BYTES: Final = 256 * 1024 * 1024
_SCRIPT_MAX_BYTES: Final = 1024 * 1024
_SHOWN_CHARS: Final = 200
_REASON_CHARS: Final = 200
_MESSAGE_CHARS: Final = 2000
LABEL: Final = "automation"
DEPTH_LABEL: Final = "automation_depth"


class Effects:
    """Does what the steps of runs say; raises TryAgain, or HubError for what never works."""

    def __init__(self, hub: Hub, allowed: Allowed) -> None:
        self._hub = hub
        self.allowed = allowed

    async def do(self, run: Run, number: int) -> tuple[str, list[NewEvent]]:
        """Do a step; returns what to say of it, and the events to commit with that."""
        step = run.body["steps"][number]
        content = step["content"]
        key = f"{run.automation}:{run.id}:{number}"
        if step["kind"] == "notify":
            return self._notify(run, content)
        try:
            return await self._do(step["kind"], content, run, key), []
        except (Busy, LimitReached, StorageFull, *PASSING_ERRORS) as error:
            raise TryAgain(str(error)) from error

    async def _do(self, kind: str, content: Mapping[str, Any], run: Run, key: str) -> str:
        match kind:
            case "webhook":
                return await webhook.call(content, self.allowed.hosts, key)
            case "command":
                return await self._command(content)
            case "submit":
                return await self._submit(content, run, key)
            case "cancel":
                status = await self._hub.services[JOBS].cancel(content["job"], "an automation")
                return f"job {content['job']} is {status['state']}"
            case "drain" | "undrain":
                return await self._drain(kind, content)
            case "pause" | "resume":
                arguments = {"for_s": content["for"]} if "for" in content else {}
                await self._hub.control.run({"command": kind, "arguments": arguments})
                return f"{kind}d this hub's worker"
        raise HubError(f"there is no action {kind}")

    def _notify(self, run: Run, content: Mapping[str, Any]) -> tuple[str, list[NewEvent]]:
        message = content["message"][:_MESSAGE_CHARS]
        _LOGGER.warning("%s: %s", run.automation, message)
        told = {
            "automation": run.automation, "trigger_id": f"{run.automation}:{run.id}",
            "message": message, "depth": run.body["depth"] + 1,
        }  # fmt: skip
        return message, [NewEvent(EventType.AUTOMATION_NOTIFIED, told)]

    async def _command(self, content: Mapping[str, Any]) -> str:
        command = self.allowed.commands.get(content["name"])
        if command is None:
            raise HubError(f"{content['name']} is not among the allowed commands")
        given = content.get("input", "").encode()
        with await asyncio.to_thread(_with_content, given) as file:
            said = await said_by(command, content["timeout"], stdin=file.fileno())
        shown = said.decode("utf-8", "replace").strip()[:_SHOWN_CHARS]
        return f"{content['name']} is done" + (f": {shown}" if shown else "")

    async def _drain(self, kind: str, content: Mapping[str, Any]) -> str:
        fleet = self._hub.services[FLEET]
        wanted = content["node"]
        found = [each for each in await fleet.list() if wanted in (each["node_id"], each["name"])]
        if len(found) != 1:
            raise HubError(f"there {'is no node' if not found else 'are several nodes'} {wanted}")
        node_id = found[0]["node_id"]
        if kind == "drain":
            await fleet.drain(node_id, content["reason"][:_REASON_CHARS])
        else:
            await fleet.undrain(node_id)
        return f"{found[0]['name']} is {kind}ed"

    async def _submit(self, content: Mapping[str, Any], run: Run, key: str) -> str:
        service = self._hub.services[JOBS]
        spec = dict(content["spec"])
        depth = run.body["depth"] + 1
        labels = spec.get("labels", {})
        spec["labels"] = {**labels, LABEL: run.automation, DEPTH_LABEL: str(depth)}
        script = None
        if "script" in content:
            path = self._below(content["script"])
            script = (path.name, await asyncio.to_thread(_read, path, _SCRIPT_MAX_BYTES))
        async with AsyncExitStack() as opened:
            parts, values = await self._dataset(content["dataset"], spec, opened)
            submission = Submission(
                await self._module(content.get("module"), service.module_bytes_max), parts, values,
                dump_json(spec), run.body["owner"], f"automation:{key}", script,
            )  # fmt: skip
            try:
                submitted = await service.submit(submission)
            except Conflict as error:
                if error.code != "idempotency_conflict":
                    raise
                # Nobody else has this key: it was submitted before a restart, and a file or the
                # result is another one since.
                return f"was submitted before ({error})"
        return f"submitted job {submitted.job_id}"

    async def _module(self, name: str | None, most_bytes: int) -> bytes:
        if name is None:
            return b""
        if SHA256_HEX.match(name):
            if (module := await self._hub.store.blobs.get(name)) is None:
                raise HubError(f"there is no module {name} here any more")
            return module
        return await asyncio.to_thread(_read, self._below(name), most_bytes)

    async def _dataset(
        self, content: Mapping[str, Any], spec: dict[str, Any], opened: AsyncExitStack
    ) -> tuple[tuple[DatasetPart, ...], Any]:
        ((kind, given),) = content.items()
        if kind == "range":
            spec.setdefault("split", "range")
            return (), given
        if kind == "text":
            return (DatasetPart("", given.encode()),), None
        if kind == "file":
            path = self._below(given)
            body = await asyncio.to_thread(_read, path, _FILE_MAX_BYTES)
            return (DatasetPart(path.name, body),), None
        assert kind == RESULT
        result = await self._hub.services[JOBS].result(given)
        return (DatasetPart("", await opened.enter_async_context(result.reading)),), None

    def _below(self, name: str) -> Path:
        path = (self._hub.config_dir / name).resolve()
        if not path.is_relative_to(self._hub.config_dir.resolve()):
            raise HubError(f"{name} is not below the configuration directory")
        return path


def _read(path: Path, most_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            body = file.read(most_bytes + 1)
    except OSError as error:
        raise HubError(f"{path} can't be read: {error.strerror}") from error
    if len(body) > most_bytes:
        raise HubError(f"{path} has more than {most_bytes} bytes")
    return body


def _with_content(content: bytes) -> IO[bytes]:
    """Return a file without a name that has the content; the caller closes it."""
    file = tempfile.TemporaryFile()  # noqa: SIM115
    file.write(content)
    file.seek(0)
    return file
