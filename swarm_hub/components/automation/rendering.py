"""Rendering of templates by a child process that has a second and 64 MiB, and is killed beyond."""

import asyncio
import json
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from swarm_hub.components.automation.templates import is_template
from swarm_hub.exceptions import HubError
from swarm_hub.util.within import within

_PROGRAM: Final = Path(__file__).with_name("renderer.py")
MEMORY_BYTES: Final = 64 * 1024 * 1024
WITHIN_S: Final = 1.0
# Python and jinja2 are imported meanwhile, which a phone takes seconds for.
_READY_WITHIN_S: Final = 30.0
_LENGTH: Final = struct.Struct("!I")
_ANSWER_MAX_BYTES: Final = 8 * 1024 * 1024
_TEXTS_MAX: Final = 200
_OUT_OF_MEMORY: Final = 77


class TemplateError(HubError):
    """A template that can't be rendered; the text says why."""


class Renderer:
    """Renders one request at a time; the child is started when it is first needed."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id; None without one."""
        return None if self._process is None else self._process.pid

    async def render(self, content: Any, values: Mapping[str, Any]) -> Any:
        """Return plain content with its templates rendered; raises TemplateError.

        Content without a template costs nothing and needs no child.
        """
        templates = list(dict.fromkeys(_templates(content)))
        if not templates:
            return content
        if len(templates) > _TEXTS_MAX:
            raise TemplateError(f"an action has more than {_TEXTS_MAX} templates")
        async with self._lock:
            answer = await self._answer({"templates": templates, "values": dict(values)})
        if "error" in answer:
            raise TemplateError(f"a template failed: {answer['error']}")
        return _with(content, dict(zip(templates, answer["texts"], strict=True)))

    async def close(self) -> None:
        """End the child."""
        process, self._process = self._process, None
        if self._writer is not None:
            self._writer.close()
            self._writer = self._reader = None
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.wait)

    async def _answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        body = json.dumps(asked).encode()
        try:
            if self._process is None:
                await self._start()
            assert self._writer is not None
            async with asyncio.timeout(WITHIN_S):
                self._writer.write(_LENGTH.pack(len(body)) + body)
                await self._writer.drain()
                return await self._read()
        except TimeoutError:
            await self.close()
            raise TemplateError(f"a template took more than {WITHIN_S:g} s") from None
        except (OSError, EOFError, ValueError) as error:
            raise await self._died(error) from None
        except BaseException:
            # What was asked is not waited for any more; its answer would be taken for the next.
            await self.close()
            raise

    async def _died(self, error: BaseException) -> TemplateError:
        process = self._process
        status = None
        if process is not None:
            await within(WITHIN_S, asyncio.to_thread(process.wait, WITHIN_S))
            status = process.poll()
        await self.close()
        if status == _OUT_OF_MEMORY:
            return TemplateError(f"a template took more than {MEMORY_BYTES // 2**20} MiB of memory")
        return TemplateError(f"the process that renders templates ended ({status}, {error})")

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = _child(theirs)
            except OSError:
                ours.close()
                raise
        self._reader, self._writer = await asyncio.open_unix_connection(sock=ours)
        try:
            async with asyncio.timeout(_READY_WITHIN_S):
                await self._read()
        except TimeoutError:
            raise OSError("it did not start in time") from None

    async def _read(self) -> dict[str, Any]:
        assert self._reader is not None
        (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
        if length > _ANSWER_MAX_BYTES:
            raise ValueError("its answer is too long")
        answer = json.loads(await self._reader.readexactly(length))
        if not isinstance(answer, dict):
            raise ValueError("its answer is none")
        return answer


def _child(link: socket.socket) -> subprocess.Popen[bytes]:
    # It sees nothing of the hub's: no environment, no files that are open.
    return subprocess.Popen(
        [sys.executable, "-I", str(_PROGRAM), str(MEMORY_BYTES)],
        stdin=link.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={}, cwd="/", start_new_session=True,
    )  # fmt: skip


def _templates(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        if is_template(content):
            yield content
    elif isinstance(content, Mapping):
        for value in content.values():
            yield from _templates(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _templates(value)


def _with(content: Any, texts: Mapping[str, str]) -> Any:
    if isinstance(content, str):
        return texts.get(content, content)
    if isinstance(content, Mapping):
        return {key: _with(value, texts) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_with(value, texts) for value in content]
    return content
