"""The control socket: a unix socket that only the hub's owner may use."""

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Final

from swarm_hub.const import CONTROL_SOCKET
from swarm_hub.control.commands import ControlCommands, Refused
from swarm_hub.control.wire import ANSWER_MAX_BYTES, REQUEST_MAX_BYTES, answered, refused
from swarm_hub.exceptions import HubError
from swarm_hub.tasks import TaskSupervisor
from swarm_hub.util.strict_json import parse_json
from swarm_hub.util.unix_socket import bind_private

_LOGGER = logging.getLogger(__name__)

_CONNECTIONS_MAX: Final = 16
# A client that says nothing, or does not read, for this long is let go.
_IDLE_S: Final = 10.0


class ControlServer:
    """Answers on the control socket of a configuration directory."""

    def __init__(self, config_dir: Path, commands: ControlCommands, tasks: TaskSupervisor) -> None:
        self._config_dir = config_dir
        self._commands = commands
        self._tasks = tasks
        self._server: asyncio.Server | None = None
        self._connections = 0

    async def start(self) -> None:
        """Listen; a hub that can't is without its commands, and says why."""
        listening = None
        try:
            # The caller holds the directory's lock, so nobody listens on what is left there.
            listening = bind_private(self._config_dir / CONTROL_SOCKET)
            self._server = await asyncio.start_unix_server(
                self._on_connection, sock=listening, limit=REQUEST_MAX_BYTES
            )
        except (OSError, HubError) as error:
            if listening is not None:
                listening.close()
            _LOGGER.warning(
                "`swarm-hub status`, pause and resume can't reach this hub; its socket %s: %s",
                self._config_dir / CONTROL_SOCKET, error,
            )  # fmt: skip

    async def stop(self) -> None:
        """Take no more requests."""
        if self._server is not None:
            self._server.close()
            (self._config_dir / CONTROL_SOCKET).unlink(missing_ok=True)
            self._server = None

    def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= _CONNECTIONS_MAX:
            writer.write(refused(Refused("busy", "too many connections; try again")))
            writer.close()
            return
        self._connections += 1
        self._tasks.spawn(self._serve(reader, writer), "control connection")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # A client that went away or is too slow is nobody's fault.
            with contextlib.suppress(ConnectionError, TimeoutError):
                while await self._answer(reader, writer):
                    pass
        finally:
            self._connections -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; returns whether another can follow it."""
        goes_on = False
        try:
            async with asyncio.timeout(_IDLE_S):
                line = await reader.readuntil(b"\n")
            goes_on = True
            answer = await self._run(line)
        except asyncio.IncompleteReadError as error:
            if not error.partial:
                return False
            answer = refused(Refused("bad_request", "a request ends with a newline"))
        except asyncio.LimitOverrunError:
            text = f"a request is one line of at most {REQUEST_MAX_BYTES} bytes"
            answer = refused(Refused("too_long", text))
        writer.write(answer)
        async with asyncio.timeout(_IDLE_S):
            await writer.drain()
        return goes_on

    async def _run(self, line: bytes) -> bytes:
        try:
            answer = answered(await self._commands.run(parse_json(line, "the request")))
        except HubError as error:
            return refused(error)
        except Exception as error:
            _LOGGER.exception("A command of the control socket failed")
            return refused(Refused("fault", f"this hub has a fault: {error!r}"))
        if len(answer) > ANSWER_MAX_BYTES:
            return refused(
                Refused("too_long", f"the answer has more than {ANSWER_MAX_BYTES} bytes")
            )
        return answer
