"""Asking the hub of a configuration directory, from another process of its owner."""

import contextlib
import socket
import time
from pathlib import Path
from typing import Any, Final

from swarm_hub.const import CONTROL_SOCKET
from swarm_hub.control.commands import ANSWER_WITHIN_S, Refused
from swarm_hub.control.wire import ANSWER_MAX_BYTES, read_answer
from swarm_hub.exceptions import HubError, HubNotRunningError
from swarm_hub.util.strict_json import dump_json
from swarm_hub.util.unix_socket import short_address

# Longer than the hub takes to give up itself.
_WITHIN_S: Final = ANSWER_WITHIN_S + 5.0


def ask(config_dir: Path, command: str, **arguments: object) -> dict[str, Any]:
    """Return the answer of the hub that runs on a directory; raises HubError.

    HubNotRunningError says that none runs there, Refused that it does not do it, and why.
    """
    request = dump_json({"command": command, "arguments": arguments}) + b"\n"
    try:
        with (
            short_address(config_dir / CONTROL_SOCKET) as address,
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection,
        ):
            connection.settimeout(_WITHIN_S)
            connection.connect(address)
            # A hub with too many clients says so without reading.
            with contextlib.suppress(BrokenPipeError):
                connection.sendall(request)
            line = _read_line(connection)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        raise HubNotRunningError(
            f"{config_dir}: no hub runs on this directory; start it with `swarm-hub run`, or name "
            "another with -c"
        ) from None
    except PermissionError:
        raise HubError(
            f"{config_dir}: the hub there belongs to another user; run the command as its owner"
        ) from None
    except OSError as error:
        raise HubError(f"{config_dir}: the hub there does not answer: {error}") from error
    content = read_answer(line)
    if content.get("ok") is not True:
        raise Refused(str(content.get("code")), str(content.get("error")))
    answer = content.get("answer")
    return answer if isinstance(answer, dict) else {}


def _read_line(connection: socket.socket) -> bytes:
    deadline = time.monotonic() + _WITHIN_S
    line = b""
    while not line.endswith(b"\n"):
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        more = connection.recv(65536)
        if not more:
            raise ConnectionResetError("it closed the connection")
        line += more
        if len(line) > ANSWER_MAX_BYTES:
            raise OSError(f"its answer has more than {ANSWER_MAX_BYTES} bytes")
    return line
