"""Renders templates in a process of its own, which imports nothing of the hub.

Run by its path, with a socket as its stdin: it answers each frame, a length of four bytes and JSON,
with another one.
"""

import contextlib
import json
import os
import resource
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

_LENGTH = struct.Struct("!I")
_FRAME_MAX_BYTES = 4 * 1024 * 1024
_TEXT_MAX_CHARS = 64 * 1024
# A hub that is killed while a template runs can't kill this process.
_CPU_S = 3
_OUT_OF_MEMORY = 77


def main(memory_bytes: int) -> None:
    """Answer until the other side closes."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    link = socket.socket(fileno=os.dup(0))
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
    environment.globals.pop("lipsum", None)
    # What it imports only when it renders, or fails: later no file can be opened.
    texts = [f"{{{{ 'a' | {name} }}}}" for name in environment.filters]
    for text in ("{{ missing }}", "{% for a in range(2) %}{{ loop.index }}{% endfor %}", *texts):
        with contextlib.suppress(Exception):
            environment.from_string(text).render()
    _limit(memory_bytes)
    _send(link, {"ready": True})
    while (asked := _receive(link)) is not None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = int(used.ru_utime + used.ru_stime) + _CPU_S
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, resource.RLIM_INFINITY))
        try:
            texts = [_rendered(environment, text, asked["values"]) for text in asked["templates"]]
            answer: dict[str, Any] = {"texts": texts}
        except MemoryError:
            # What is left of the memory may be too little for the next one.
            os._exit(_OUT_OF_MEMORY)
        except RecursionError:
            answer = {"error": "it is nested too deeply"}
        # Whatever a template does is its own fault, and told as such.
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        _send(link, answer)


def _rendered(environment: "ImmutableSandboxedEnvironment", text: str, values: Any) -> str:
    parts: list[str] = []
    left = _TEXT_MAX_CHARS
    for part in environment.from_string(text).generate(**values):
        left -= len(part)
        if left < 0:
            raise ValueError(f"it gives more than {_TEXT_MAX_CHARS} characters")
        parts.append(part)
    return "".join(parts)


def _limit(memory_bytes: int) -> None:
    try:
        with open("/proc/self/statm") as statm:
            has_bytes = int(statm.read().split()[0]) * resource.getpagesize()
    except OSError:
        has_bytes = 256 * 1024 * 1024
    limits = {
        resource.RLIMIT_AS: has_bytes + memory_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 0,
        getattr(resource, "RLIMIT_NPROC", resource.RLIMIT_CORE): 0,
    }
    for what, most in limits.items():
        resource.setrlimit(what, (most, most))


def _receive(link: socket.socket) -> Any:
    head = _exactly(link, _LENGTH.size)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    body = _exactly(link, length) if length <= _FRAME_MAX_BYTES else None
    return None if body is None else json.loads(body)


def _exactly(link: socket.socket, length: int) -> bytes | None:
    body = bytearray()
    while len(body) < length:
        more = link.recv(min(length - len(body), 65536))
        if not more:
            return None
        body += more
    return bytes(body)


def _send(link: socket.socket, answer: dict[str, Any]) -> None:
    body = json.dumps(answer).encode()
    link.sendall(_LENGTH.pack(len(body)) + body)


if __name__ == "__main__":
    main(int(sys.argv[1]))
