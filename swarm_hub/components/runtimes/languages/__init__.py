"""The languages that have a runtime: how a program of each becomes the script of a module."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from swarm_hub.components.runtimes.languages import javascript, python


@dataclass(frozen=True, slots=True)
class Language:
    """How programs of a language are run.

    `package` has the module `file` of the hash `sha256`; `extra` is how pip gets it. `before` are
    arguments before the program's path, `memory_bytes` is the least that a program gets along with.
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


LANGUAGES: Final[Mapping[str, Language]] = {
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


def language_of(file_name: str) -> str | None:
    """Return the language of a program by the ending of its name."""
    for language in LANGUAGES.values():
        if file_name.lower().endswith(language.endings):
            return language.name
    return None
