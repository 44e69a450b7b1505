"""The languages that have a runtime: how a program of each becomes the script of a module."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarm_hub.components.runtimes.languages import javascript, python


@dataclass(frozen=True, slots=True)
class Language:
    """How programs of a language are run.

    `package` has the module `file` of the hash `sha256`, and `extra` is how pip gets it; or it is
    at `path`, as a component of the owner's has it. `before` are arguments before the program's
    path, `memory_bytes` is the least that a program gets along with.
    """

    name: str
    endings: tuple[str, ...]
    package: str
    file: str
    sha256: str
    extra: str
    abi: str
    entry: str
    before: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    memory_bytes: int
    # Makes the script of a program, given its name and its text.
    script: Callable[[str, bytes], bytes]
    path: Path | None = None


_languages: Final[dict[str, Language]] = {
    module.NAME: Language(
        name=module.NAME,
        endings=module.ENDINGS,
        package=module.PACKAGE,
        file=module.FILE,
        sha256=module.SHA256,
        extra=module.EXTRA,
        abi=module.ABI,
        entry=module.ENTRY,
        before=module.BEFORE,
        env=module.ENV,
        memory_bytes=module.MEMORY_BYTES,
        script=module.script,
    )
    for module in (python, javascript)
}
LANGUAGES: Final[Mapping[str, Language]] = _languages
_BUILT_IN: Final = frozenset(_languages)
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,40}\Z", re.ASCII)


def register_language(
    name: str,
    *,
    endings: tuple[str, ...],
    path: Path,
    sha256: str,
    abi: str = "wasi",
    entry: str = "_start",
    before: tuple[str, ...] = (),
    env: tuple[tuple[str, str], ...] = (),
    memory_bytes: int = 8 * 1024 * 1024,
    script: Callable[[str, bytes], bytes] = lambda _name, source: source,
) -> None:
    """Let gateways offer a runtime; a custom component calls this when it is imported.

    The module at `path` interprets programs whose names have one of the endings, or that ask for
    it. Raises ValueError for what another language has already.
    """
    if name in _BUILT_IN:
        raise ValueError(f"the runtime {name} is built in")
    if not _NAME.match(name):
        raise ValueError(f"{name!r} is no name for a runtime: small letters, digits and _")
    for ending in endings:
        if (owner := language_of(f"x{ending}")) not in (None, name):
            raise ValueError(f"programs that end with {ending} belong to {owner}")
    # The same name again is the same component: it is imported for every hub and every check.
    _languages[name] = Language(
        name, endings, "", "", sha256, "", abi, entry, before, env, memory_bytes, script, path
    )


def language_of(file_name: str) -> str | None:
    """Return the language of a program by the ending of its name."""
    for language in LANGUAGES.values():
        if file_name.lower().endswith(language.endings):
            return language.name
    return None
