"""How a module is called: what a worker needs besides the module and the shard's bytes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from swarm_hub.models.features import read_needs
from swarm_hub.util import shape
from swarm_hub.util.bounds import LIST_MAX, shown
from swarm_hub.util.hashing import sha256_hex
from swarm_hub.util.plain import shallow
from swarm_hub.util.strict_cbor import to_canonical_cbor

# Larger programs belong in a module of their own.
SCRIPT_BYTES_MAX: Final = 256 * 1024
# Of an abi, an entry or a file.
NAME_MAX_CHARS: Final = 1024
# Of the opaque name of an owner.
OWNER_MAX_CHARS: Final = 64


@dataclass(frozen=True, slots=True)
class Script:
    """A text that the module interprets: a file `/script/NAME`, fetched by its SHA-256."""

    name: str
    sha: str
    size_bytes: int

    @classmethod
    def from_plain(cls, plain: object) -> Self:
        """Rebuild a script, ignoring unknown keys; raises KeyError or ValueError."""
        if not isinstance(plain, dict):
            raise ValueError("'script' is not a map")
        return cls(
            shape.text(plain["name"], "name", NAME_MAX_CHARS),
            shape.sha256(plain["sha"], "sha"),
            shape.size(plain["size_bytes"], "size_bytes"),
        )


@dataclass(frozen=True, slots=True)
class ModuleCall:
    """The job's part of a call; a limit of None leaves the worker's own.

    `needs` names the features that a worker must know to obey it. `owner` tells apart whose jobs
    may share a process, and says nothing else of them. With `receipt` the gateway keeps the signed
    results. With `argument` a shard is one text in JSON, which the module gets as an argument, in
    the place of `{item}` or else as the last one.
    """

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
    needs: tuple[str, ...] = ()
    owner: str = ""
    receipt: bool = False
    argument: bool = False

    def to_plain(self) -> dict[str, Any]:
        """Return plain values for CBOR or JSON."""
        plain = shallow(self)
        # Most calls have neither, and their encoding must not grow.
        if self.script is None:
            del plain["script"]
        else:
            plain["script"] = shallow(self.script)
        if not self.needs:
            del plain["needs"]
        if not self.owner:
            del plain["owner"]
        if not self.receipt:
            del plain["receipt"]
        if not self.argument:
            del plain["argument"]
        return plain

    @property
    def rest_sha(self) -> str:
        """The SHA-256 of all that a result depends on but the module, as deterministic CBOR.

        Whose job it is changes no result, and gateways of one store name owners differently; nor
        does who keeps it.
        """
        rest = self.to_plain()
        del rest["module_sha"]
        rest.pop("owner", None)
        rest.pop("receipt", None)
        if self.wall_time_s is not None:
            rest["wall_time_s"] = float(self.wall_time_s)
        return sha256_hex(to_canonical_cbor(rest))

    @property
    def sha(self) -> str:
        """What a node signs of the call that a result is of."""
        return call_sha(self.module_sha, self.rest_sha)

    @classmethod
    def from_plain(cls, plain: object) -> Self:
        """Rebuild a call, ignoring unknown keys; ValueError names what is missing or wrong.

        What must not be ignored is named in `needs`, which is kept as it is, whether known here or
        not.
        """
        try:
            if not isinstance(plain, dict):
                raise ValueError("it is not a map")
            return cls._read(plain)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"call: {shape.told(error)}") from None

    @classmethod
    def _read(cls, plain: Mapping[str, Any]) -> Self:
        script, wall_time_s = plain.get("script"), plain.get("wall_time_s")
        # The script's path comes before the job's own, or its text in the place of one.
        args = shape.items(plain["args"], "args", LIST_MAX + 1)
        return cls(
            shape.sha256(plain["module_sha"], "module_sha"),
            shape.text(plain["abi"], "abi", NAME_MAX_CHARS),
            shape.text(plain["entry"], "entry", NAME_MAX_CHARS),
            _optional(plain, "fuel", shape.count),
            _optional(plain, "memory_bytes", shape.size),
            None if wall_time_s is None else shape.seconds(wall_time_s, "wall_time_s"),
            _optional(plain, "output_bytes", shape.size),
            tuple(shape.text(each, "args", SCRIPT_BYTES_MAX) for each in args),
            tuple(_variable(each) for each in shape.items(plain["env"], "env", LIST_MAX)),
            _is_set(plain, "deterministic"),
            None if script is None else Script.from_plain(script),
            read_needs(plain.get("needs", [])),
            shape.text(plain.get("owner", ""), "owner", OWNER_MAX_CHARS),
            _is_set(plain, "receipt"),
            _is_set(plain, "argument"),
        )


def call_sha(module_sha: str, rest_sha: str) -> str:
    """Return what a node signs of a call: the hash of the module's hash and that of the rest."""
    return sha256_hex(bytes.fromhex(module_sha) + bytes.fromhex(rest_sha))


def _optional(
    plain: Mapping[str, Any], name: str, read: Callable[[object, str], int]
) -> int | None:
    value = plain.get(name)
    return None if value is None else read(value, name)


def _variable(value: object) -> tuple[str, str]:
    if not isinstance(value, list) or len(value) < 2:
        raise ValueError(f"a variable of 'env' is not [name, text]: {shown(value)}")
    return shape.text(value[0], "env"), shape.text(value[1], "env")


def _is_set(plain: Mapping[str, Any], name: str) -> bool:
    value = plain.get(name, False)
    if not isinstance(value, bool):
        raise ValueError(f"{name!r} is not a bool: {shown(value)}")
    return value
