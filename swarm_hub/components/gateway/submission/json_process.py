"""Large JSON datasets, parsed by another process: parsing holds the interpreter for seconds."""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import swarm_hub
from swarm_hub.exceptions import InvalidInput, MalformedRequest
from swarm_hub.models.blob import windows
from swarm_hub.models.submission import DatasetPart
from swarm_hub.storage import Spool

_ROOT: Final = str(Path(swarm_hub.__file__).parent.parent)
_RUN: Final = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from swarm_hub.util.json_items import main; sys.exit(main())"
)
_CHUNK_BYTES: Final = 256 * 1024
_WORDS_BYTES_MAX: Final = 4096
_WITHIN_S: Final = 600
# One at a time: each may take as much memory as a large item needs.
_turn: Final = asyncio.Semaphore(1)


async def convert(parts: Sequence[DatasetPart], form: str, spool: Spool) -> DatasetPart:
    """Bring uploaded JSON into a form of `json_items`, in a spool; raises RequestError."""
    async with _turn:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", "-c", _RUN, _ROOT, form,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(_WITHIN_S):
                words = await _pump(process, parts, spool)
                status = await process.wait()
        except TimeoutError:
            raise InvalidInput(
                "invalid_dataset", f"dataset: its JSON could not be read within {_WITHIN_S} s"
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if status:
        raise _refusal(words, status)
    spooled = await spool.finish()
    return DatasetPart("", spool.mapped() if spooled.size_bytes else b"", spooled)


async def _pump(
    process: asyncio.subprocess.Process, parts: Sequence[DatasetPart], spool: Spool
) -> bytes:
    """Write the parts to the process and what it says to the spool; returns its last words."""
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    assert stdin is not None
    assert stdout is not None
    assert stderr is not None

    async def write() -> None:
        try:
            for part in parts:
                for window in windows(part.body):
                    stdin.write(window)
                    await stdin.drain()
            stdin.close()
            await stdin.wait_closed()
        except (BrokenPipeError, ConnectionResetError):
            # It found a mistake and reads no more.
            return

    async def read() -> None:
        try:
            while chunk := await stdout.read(_CHUNK_BYTES):
                await spool.write(chunk)
        except Exception:
            # Nobody reads what it says any more, so it would never read the rest.
            process.kill()
            raise

    for error in await asyncio.gather(write(), read(), return_exceptions=True):
        if error is not None:
            raise error
    return await stderr.read(_WORDS_BYTES_MAX)


def _refusal(words: bytes, status: int) -> InvalidInput | MalformedRequest:
    try:
        code, message = json.loads(words)
    except ValueError:
        return InvalidInput(
            "invalid_dataset",
            f"dataset: its JSON could not be read (exit {status}); an item may be too large",
        )
    kind = MalformedRequest if code == "invalid_json" else InvalidInput
    return kind(code, message)
