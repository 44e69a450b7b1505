"""A job as it is sent: as a form, or, if it is small, as CBOR."""

import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import aiohttp

from swarm_hub.client.datasets import dataset_of
from swarm_hub.client.errors import ClientError
from swarm_hub.client.uploads import LARGE_BYTES, Source, read, size_of, unreadable
from swarm_hub.util.hashing import sha256_hex
from swarm_hub.util.strict_cbor import to_cbor

Module = bytes | bytearray | memoryview | Path | str | Callable[..., Any]

# Of programs that are sent without a module; a hub says which of them it has a runtime for.
PROGRAM_ENDINGS: Final = (".py", ".js", ".mjs")

CBOR: Final = "application/cbor"
# More files are sent as one archive.
_PARTS_MAX: Final = 100
# What WAT text begins with, and no path of a module.
_WAT: Final = ("(", ";;")
# A job of at most so many bytes is sent without a form, which costs the hub half a millisecond.
_SMALL_BYTES: Final = 1000 * 1024
# A module above this is named by its hash once the hub has it.
_SENT_AGAIN_BYTES: Final = 16 * 1024


def is_program(module: Module) -> bool:
    """Whether this is the path of a program, which a runtime of the hub interprets."""
    return isinstance(module, str | Path) and Path(module).suffix.lower() in PROGRAM_ENDINGS


# The label of jobs whose items and results are encoded values.
FUNCTIONS_LABEL: Final = ("swarm-hub.map", "1")


def is_of_functions(status: Mapping[str, Any]) -> bool:
    """Whether a job calls a Python function for each of its items."""
    name, value = FUNCTIONS_LABEL
    return bool((status.get("labels") or {}).get(name) == value)


@dataclass(frozen=True, slots=True)
class Submission:
    """What is submitted; `module_sha` is empty where the module is better sent each time."""

    module: bytes
    module_sha: str
    # A large file is its path, until it is sent.
    files: list[tuple[str, Source]]
    script: tuple[str, bytes] | None
    spec: dict[str, Any]

    @classmethod
    def of(
        cls,
        module: Module,
        items: Any,
        script: Path | str | tuple[str, bytes] | None,
        spec: Mapping[str, Any],
    ) -> Self:
        """Read what is named by a path; raises ClientError for what can't be sent."""
        if callable(module):
            from swarm_hub.client.functions.jobs import submission_of

            if script is not None:
                raise ClientError("script: a function is sent as one; leave it out")
            return cls(b"", "", *submission_of(module, items, spec))
        if script is None and is_program(module):
            module, script = b"", Path(str(module))
        wasm = _wasm(module)
        wanted = {key: value for key, value in spec.items() if value is not None}
        files = dataset_of(items, wanted)
        named = None
        if script is not None:
            named = script if isinstance(script, tuple) else _named(Path(script))
        # The hub stores text assembled, under another hash.
        by_hash = len(wasm) > _SENT_AGAIN_BYTES and wasm.startswith(b"\0asm")
        sha = sha256_hex(wasm) if by_hash else ""
        return cls(wasm, sha, files, named, wanted)

    def is_small(self, module_bytes: int) -> bool:
        """Whether it can be sent as CBOR, with so many bytes of its module."""
        size_bytes = module_bytes + sum(size_of(body) for _, body in self.files)
        return size_bytes + len(self.script[1] if self.script else b"") <= _SMALL_BYTES

    def large(self) -> list[Source]:
        """Return what is better sent before the job, of which it names the hashes."""
        if len(self.files) > _PARTS_MAX:
            # These go in one archive.
            return []
        sources: list[Source] = [self.module, *(body for _, body in self.files)]
        return [each for each in sources if size_of(each) > LARGE_BYTES]

    def as_cbor(self, *, by_hash: bool) -> bytes:
        """Return it as CBOR; `by_hash` leaves the module out."""
        said: dict[str, Any] = {
            "spec": self.spec,
            "dataset": [[name, read(body)] for name, body in self.files],
        }
        if by_hash:
            said["module_sha"] = self.module_sha
        else:
            said["module"] = self.module
        if self.script is not None:
            said["script"] = list(self.script)
        return to_cbor(said)

    def as_form(self, named: Mapping[Source, str]) -> aiohttp.FormData:
        """Return it as a form; many files become one archive, and what is `named` its hash."""
        # Names are sent as UTF-8: a hub can't tell a `%20` made by quoting from one in the name.
        form = aiohttp.FormData(quote_fields=False)
        if (sha := named.get(self.module)) is not None:
            form.add_field("module_sha", sha)
        else:
            form.add_field("module", self.module, filename="module.wasm")
        if len(self.files) > _PARTS_MAX:
            form.add_field("files", _archive(self.files), filename="files.tar")
        else:
            for name, body in self.files:
                filename = name.replace('"', "%22")
                if (sha := named.get(body)) is not None:
                    form.add_field("dataset_sha", sha, filename=filename)
                else:
                    form.add_field("dataset", _sent(body), filename=filename)
        if self.script is not None:
            form.add_field("script", self.script[1], filename=self.script[0].replace('"', "%22"))
        form.add_field("spec", json.dumps(self.spec), content_type="application/json")
        return form


def _wasm(module: Module) -> bytes:
    """Return what a module is: a file, bytes, or WAT text itself."""
    match module:
        case bytes():
            return module
        case bytearray() | memoryview():
            return bytes(module)
        case str() if module.lstrip().startswith(_WAT):
            return module.encode()
        case str() | Path():
            return read(Path(module))
    raise ClientError(
        "module: expected a Python function, a path, bytes or WAT text, got "
        f"{type(module).__name__}"
    )


def _sent(source: Source) -> bytes | BinaryIO:
    """Return a source as a form takes it, which closes what it opened."""
    if isinstance(source, bytes):
        return source
    try:
        return source.open("rb")
    except OSError as error:
        raise unreadable(source, error) from error


def _archive(files: Sequence[tuple[str, Source]]) -> BinaryIO:
    """Return many files as one tar archive, which costs less to send and to read than parts."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, source in files:
            body = read(source)
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    packed.seek(0)
    return packed


def _named(path: Path) -> tuple[str, bytes]:
    return path.name, read(path)
