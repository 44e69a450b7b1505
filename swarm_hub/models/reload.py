"""What a running hub says of its configuration, and of taking a new one."""

from typing import Any, TypedDict


class KeyChange(TypedDict):
    """A key with another value than before; secrets are left out, None stands for no value.

    `file` and `line` are where the new value is, None for a default.
    """

    path: str
    old: Any
    new: Any
    file: str | None
    line: int | None


class Reload(TypedDict):
    """What a reload has done: the keys in force now, and those that wait for a restart."""

    applied: list[KeyChange]
    needs_restart: list[KeyChange]


class KeyValue(TypedDict):
    """A value in force, as it counts and as it is written; without a file it is the default.

    `tag` is what it comes by, such as `!secret NAME`.
    """

    path: str
    value: Any
    written: Any
    file: str | None
    line: int | None
    tag: str | None
    reloadable: bool
