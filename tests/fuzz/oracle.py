"""wasmtime's own validator in a process of its own, with the sandbox's settings."""

import asyncio
import struct
import sys
from types import TracebackType

# The settings are those of the child; its package is the only thing of the hub that is imported.
_PROGRAM = """
import struct, sys
from swarm_hub.components.sandbox.child.variants import PLAIN, SETTINGS
from wasmtime import Config, Engine, Module, WasmtimeError
config = Config()
for name, value in SETTINGS[PLAIN].items():
    setattr(config, name, value)
engine = Engine(config)
take, give = sys.stdin.buffer, sys.stdout.buffer
while head := take.read(4):
    wasm = take.read(struct.unpack("=I", head)[0])
    try:
        Module.validate(engine, wasm)
        verdict = b"1"
    except WasmtimeError:
        verdict = b"0"
    give.write(verdict)
    give.flush()
"""


class Oracle:
    """Says of one module after the other whether it is valid."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> "Oracle":
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _PROGRAM,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # Ctrl-C ends the campaign, which then ends this.
            start_new_session=True,
        )
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def accepts(self, wasm: bytes) -> bool:
        """Tell whether the validator accepts a module; raises EOFError if it died of it."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        async with self._turn:
            process.stdin.write(struct.pack("=I", len(wasm)) + wasm)
            await process.stdin.drain()
            verdict = await process.stdout.read(1)
        if not verdict:
            raise EOFError("the validator ended")
        return verdict == b"1"
