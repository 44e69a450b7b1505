"""A place of a component's own on the page."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarm_hub.endpoints.request import Scope
from swarm_hub.exceptions import SetupError
from swarm_hub.util.bounds import is_text

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,40}\Z", re.ASCII)
_TITLE_MAX_CHARS: Final = 30
_MODULE_MAX_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """What is shown at `#/own/NAME`: an ES module, which the page imports when it is opened.

    Whoever reaches the hub can read the module, as the rest of the page; what it shows it asks of
    the API, with the token of its reader, who sees the place if that has the `scope`.
    """

    name: str
    title: str
    module: Path
    scope: Scope = Scope.READ

    def read(self) -> bytes:
        """Return the module; raises SetupError that says what is wrong with the place."""
        what = f"place {self.name!r}"
        if not _NAME.match(self.name):
            raise SetupError(f"{what}: its name must be small letters, digits and _")
        if not is_text(self.title, _TITLE_MAX_CHARS, 1):
            raise SetupError(f"{what}: its title must have 1 to {_TITLE_MAX_CHARS} characters")
        try:
            body = self.module.read_bytes()
        except OSError as error:
            raise SetupError(f"{what}: {self.module}: {error.strerror}") from None
        if len(body) > _MODULE_MAX_BYTES:
            raise SetupError(f"{what}: {self.module} is larger than 64 KiB")
        return body
