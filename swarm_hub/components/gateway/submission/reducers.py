"""The names by which a job can ask for a fold: those of the hub, and those that owners bring."""

import re
from typing import Any, Final

from swarm_hub.helpers import config_validation as cv
from swarm_hub.models.job import REDUCERS

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,40}\Z", re.ASCII)
_own: set[str] = set()


def add_name(name: str) -> None:
    """Let jobs ask for a fold of this name; raises ValueError if it can't be one."""
    if name in REDUCERS:
        raise ValueError(f"the reduce {name} is built in")
    if not _NAME.match(name):
        raise ValueError(f"{name!r} is no name for a reduce: small letters, digits and _")
    _own.add(name)


class Reducer:
    """The validator of `reduce:` in a job's spec."""

    @property
    def json_schema(self) -> dict[str, Any]:
        """What it takes now, for the description of the API."""
        return {"type": "string", "enum": [*REDUCERS, *sorted(_own)]}

    def __call__(self, value: Any) -> str:
        """Return the name of a fold that there is."""
        return cv.one_of(*REDUCERS, *sorted(_own))(value)
