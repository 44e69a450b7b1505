"""The values of the sandbox's public interface: a call, its limits and its outcome."""

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from swarm_hub.exceptions import HubError

from .child.variants import DETERMINISTIC, FUEL, PLAIN
from .fence import Fence

OK = "ok"
FUEL_SPENT = "fuel"
MEMORY = "memory"
WALL_TIME = "wall_time"
OUTPUT = "output"
BAD_MODULE = "bad_module"
BAD_EXPORT = "bad_export"
BAD_INPUT = "bad_input"
COMPILE_LIMIT = "compile_limit"
CHILD_DIED = "child_died"

_ITEM = "{item}"
# With the JSON escapes this stays within a frame's header.
_TEXT_CHARS_MAX = 32 * 1024
# A comment, `(module`, or a field of a module, which may stand without it.
_WAT = re.compile(
    rb"\s*(?:;;|\(;|\(\s*(?:module|component|type|rec|import|func|table|memory|global|export|start|"
    rb"elem|data)\b)"
)


class Reuse(StrEnum):
    """Whose shards may run in a child one after the other."""

    OWNER = "owner"
    JOB = "job"
    NEVER = "never"


class SandboxError(HubError):
    """The sandbox can't do what was asked.

    `code` is a failure code, or one of `stopped`, `preempted` and `no_child`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one shard; fuel counts instructions and repeats exactly."""

    memory_bytes: int
    wall_time_s: float
    output_bytes: int
    fuel: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """How a module is called on a shard."""

    module_sha: str
    abi: str
    entry: str | None
    limits: Limits
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    deterministic: bool = False
    # Name and bytes of a file that the module finds under /script.
    script: tuple[str, bytes] | None = None
    # Only calls of one scope share a child; None is a scope that no other call is in.
    scope: str | None = ""
    # Whether the shard is one text in JSON, for `{item}` among the arguments or at their end.
    argument: bool = False

    def given(self, body: bytes) -> "Call":
        """Return the call with its shard as an argument; raises SandboxError if it is no text."""
        try:
            item = json.loads(body)
        except (ValueError, RecursionError):
            item = None
        if not isinstance(item, str):
            raise SandboxError(BAD_INPUT, "The shard is to be an argument, but is no text in JSON")
        args = tuple(item if arg == _ITEM else arg for arg in self.args)
        return replace(
            self, args=args if _ITEM in self.args else (*self.args, item), argument=False
        )

    @property
    def variant(self) -> str:
        """The way the module is compiled for this call; metering costs up to half the speed."""
        if self.deterministic:
            return DETERMINISTIC
        return PLAIN if self.limits.fuel is None else FUEL

    @property
    def problem(self) -> str | None:
        """Why this call can't be made, whatever the module is, or None."""
        texts = [self.abi, self.entry or "", *self.args]
        texts += [text for pair in self.env for text in pair]
        if any("\0" in text for text in texts):
            return "An argument or environment variable contains a NUL character"
        if any("\ud800" <= char <= "\udfff" for text in texts for char in text):
            return "An argument or environment variable is not valid Unicode"
        if sum(map(len, texts)) > _TEXT_CHARS_MAX:
            return (
                f"The arguments and environment are longer than {_TEXT_CHARS_MAX} characters; "
                "put them into the input"
            )
        return None


@dataclass(frozen=True, slots=True)
class ModuleSource:
    """Where a module's bytes come from, and the name of its compiled form."""

    key: str
    sha: str
    variant: str
    load_wasm: Callable[[], Awaitable[bytes]]
    # As announced; 0 when it is known only once the module is read.
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CallResult:
    """What became of a shard: `code` is `ok` or a failure code, `text` says what to do."""

    code: str
    text: str
    output: bytes
    wall_s: float
    cpu_s: float
    peak_memory_bytes: int | None
    fuel: int | None


@dataclass(frozen=True, slots=True)
class SandboxStats:
    """Counters for diagnostics and telemetry."""

    children: int
    running: int
    queued: int
    restarts: int
    loaded: int
    compiled: int
    cache_bytes: int
    pids: tuple[int, ...]
    # Children whose shards gave way; they occupy no slot.
    suspended: int = 0
    # None until the first child has started.
    fence: Fence | None = None


def is_wat(module: bytes) -> bool:
    """Return whether this is Wasm as text; looks at the first bytes only."""
    return _WAT.match(module[:4096]) is not None


def not_wasm(module: bytes) -> str | None:
    """Return why these bytes can't be a core module; looks at the first bytes only."""
    if module.startswith(b"\0asm\1\0\0\0"):
        return None
    if module.startswith(b"\0asm"):
        return (
            "This is a Wasm component or an unknown version; build a core module instead, such as "
            "a command for wasm32-wasip1"
        )
    if is_wat(module):
        return "This is WAT text, which has to be assembled first"
    return "This is not a Wasm module: it does not start with the bytes 00 61 73 6d 01 00 00 00"
