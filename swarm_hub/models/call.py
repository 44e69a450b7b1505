"""How a module is called: what a worker needs besides the module and the shard's bytes."""

from dataclasses import dataclass
from typing import Any, Final, Self

from swarm_hub.util.plain import shallow

# Larger programs are for a module of their own.
SCRIPT_BYTES_MAX: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Script:
    """A text that the module interprets: a file `/script/NAME`, fetched by its SHA-256."""

    name: str
    sha: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ModuleCall:
    """The job's part of a call; a limit of None leaves the worker's own."""

    module_sha: str
    abi: str
    entry: str
    fuel: int | None = None
    memory_bytes: int | None = None
    wall_time_s: float | None = None
    output_bytes: int | None = None
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    deterministic: bool = False
    script: Script | None = None

    def to_plain(self) -> dict[str, Any]:
        """Return plain values for CBOR or JSON."""
        plain = shallow(self)
        if self.script is None:
            # Older workers don't know the key.
            del plain["script"]
        else:
            plain["script"] = shallow(self.script)
        return plain

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Self:
        """Rebuild a call; raises TypeError, ValueError or KeyError on a wrong shape."""
        return cls(
            **{
                **plain,
                "args": tuple(str(arg) for arg in plain["args"]),
                "env": tuple((str(key), str(value)) for key, value in plain["env"]),
                "script": Script(**plain["script"]) if plain.get("script") else None,
            }
        )
