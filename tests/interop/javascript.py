"""The peer in JavaScript as a process that a test drives: a command a line, an answer a line."""

import asyncio
import json
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

FOLDER = Path(__file__).parent
_ANSWER_TIMEOUT_S = 40.0
# A line carries gossip and logs, not blobs.
_LINE_MAX_BYTES = 1024 * 1024


class JsPeer:
    """A running peer; its keys are new unless a seed is given."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._commands = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._reading = asyncio.create_task(self._read())
        self.id = ""
        self.address = ""
        self.public_key = ""

    @classmethod
    async def start(cls, *, seed: bytes | None = None, **options: Any) -> Self:
        """Start it; `options` are those of `Peer.start`, `flaw`, `later`, `idle` and `promises`."""
        node = shutil.which("node")
        assert node is not None, "node is missing: run script/setup --test"
        assert (FOLDER / "node_modules").is_dir(), "run script/setup --test"
        process = await asyncio.create_subprocess_exec(
            node, "--import", "./polyfill.mjs", "driven.mjs", cwd=FOLDER,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LINE_MAX_BYTES,
        )  # fmt: skip
        peer = cls(process)
        seeds = {"seed": (seed or os.urandom(32)).hex(), "signer": os.urandom(32).hex()}
        made = await peer.do("start", **seeds, **options)
        peer.id, peer.address, peer.public_key = made["id"], made["address"], made["public_key"]
        return peer

    async def do(self, command: str, **fields: Any) -> Any:
        """Return the answer to a command; raises RuntimeError with what JavaScript says."""
        assert self._process.stdin is not None
        self._commands += 1
        number = self._commands
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        line = json.dumps({"id": number, "command": command, **fields})
        self._process.stdin.write(line.encode() + b"\n")
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            return await answer

    async def state(self, peer_id: str) -> dict[str, Any]:
        """Return what it knows of a peer and of its own work."""
        found: dict[str, Any] = await self.do("state", peer_id=peer_id)
        return found

    async def stop(self) -> None:
        """End it, politely if it can."""
        if self._process.returncode is None:
            try:
                await self.do("stop")
            finally:
                self._process.kill()
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            reply = json.loads(line)
            answer = self._answers.pop(reply["id"])
            if answer.done():
                continue
            if "error" in reply:
                answer.set_exception(RuntimeError(reply["error"]))
            else:
                answer.set_result(reply["answer"])
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(RuntimeError("the peer in JavaScript has ended"))


StartJs = Callable[..., Awaitable[JsPeer]]
