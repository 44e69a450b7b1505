"""What goes into a child and what comes back, and how both are judged."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .call import CHILD_DIED, COMPILE_LIMIT, WALL_TIME, CallResult, ModuleSource
from .child.wire import Frame, WireError

if TYPE_CHECKING:
    from .protocol import ChildLink

STOPPED = "stopped"
PREEMPTED = "preempted"

_TEXT_CHARS_MAX = 8_192


@dataclass(frozen=True, slots=True)
class Answer:
    """What a child, or its death, says about a request."""

    code: str
    text: str
    body: bytes = b""
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_memory_bytes: int | None = None
    fuel: int | None = None

    @property
    def outcome(self) -> CallResult:
        """The answer as the outcome of a shard."""
        return CallResult(
            self.code,
            self.text,
            self.body,
            self.wall_s,
            self.cpu_s,
            self.peak_memory_bytes,
            self.fuel,
        )


@dataclass(slots=True, eq=False)
class Request:
    """One thing to do in a child; `run` requests may be sent again after a child was lost."""

    operation: str
    header: bytes
    body: bytes | bytearray
    body_bytes_max: int
    time_s: float
    future: asyncio.Future[Answer]
    # The module of a `run`, which has to be loaded in the child first.
    module: ModuleSource | None = None
    child: "ChildLink | None" = None
    # The name by which the caller of a `run` knows it.
    tag: str = ""
    # Whose shard a `run` is.
    scope: str = ""


def too_late(request: Request) -> Answer:
    """Return the answer for a request that exceeded its time."""
    limit = f"{request.time_s:g} s"
    match request.operation:
        case "run":
            text = f"The shard ran longer than its limit of {limit}; cut smaller shards"
            return Answer(WALL_TIME, text, wall_s=request.time_s)
        case "compile" | "inspect" | "assemble":
            text = f"Compiling took longer than {limit}; split the module's largest functions"
            return Answer(COMPILE_LIMIT, text)
        case operation:
            return Answer(CHILD_DIED, f"The sandbox process did not {operation} within {limit}")


def parse_answer(frame: Frame, number: int) -> Answer:
    """Read an answer; the child is not trusted, so every field is checked."""
    header = frame.header
    code, text = header.get("code"), header.get("text", "")
    if frame.number != number or not isinstance(code, str) or not isinstance(text, str):
        raise WireError("an answer with a wrong field or number")
    return Answer(code, text[:_TEXT_CHARS_MAX], bytes(frame.body), *frame.used)
