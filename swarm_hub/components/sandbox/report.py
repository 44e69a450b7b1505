"""What an inspection says about a module."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Export:
    """One export; `type` is text such as `(i32, i32) -> i64`."""

    name: str
    kind: str
    type: str


@dataclass(frozen=True, slots=True)
class Import:
    """One import; `name` is `module.name`."""

    name: str
    kind: str
    type: str


@dataclass(frozen=True, slots=True)
class ModuleReport:
    """The ABIs a module fits, best first, and its outside; `refused` says why it can't run."""

    abis: tuple[str, ...]
    exports: tuple[Export, ...]
    imports: tuple[Import, ...]
    memory_min_bytes: int
    memory_max_bytes: int | None
    refused: str | None
    # Whether the module has a `reduce` of its own for the results of abi `bytes`.
    folds: bool = False
    candidates: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def entries(self, abi: str) -> tuple[str, ...]:
        """Return the exports that can be the entry for this abi."""
        return dict(self.candidates).get(abi, ())

    def to_plain(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "abis": [{"abi": abi, "entries": list(self.entries(abi))} for abi in self.abis],
            "exports": [
                {"name": each.name, "kind": each.kind, "type": each.type} for each in self.exports
            ],
            "imports": [
                {"name": each.name, "kind": each.kind, "type": each.type} for each in self.imports
            ],
            "memory_min_bytes": self.memory_min_bytes,
            "memory_max_bytes": self.memory_max_bytes,
            "folds": self.folds,
            "refused": self.refused,
        }


def parse_report(body: bytes) -> ModuleReport:
    """Read the report a child wrote; raises ValueError when it is not one."""
    try:
        plain = json.loads(body)
        maximum = plain["memory_max_bytes"]
        candidates = tuple(
            (str(abi), tuple(str(name) for name in names)) for abi, names in plain["abis"].items()
        )
        return ModuleReport(
            abis=tuple(abi for abi, names in candidates if names),
            exports=tuple(Export(*_texts(port)) for port in plain["exports"]),
            imports=tuple(Import(*_texts(port)) for port in plain["imports"]),
            memory_min_bytes=int(plain["memory_min_bytes"]),
            memory_max_bytes=None if maximum is None else int(maximum),
            refused=None if plain["refused"] is None else str(plain["refused"]),
            folds=plain["folds"] is True,
            candidates=candidates,
        )
    except (AttributeError, KeyError, TypeError, RecursionError) as err:
        raise ValueError("not a module report") from err


def _texts(port: Any) -> tuple[str, str, str]:
    name, kind, type_text = port
    return str(name), str(kind), str(type_text)
