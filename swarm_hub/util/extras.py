"""What only gateways and their clients need: which libraries, and what is imported at first use."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Final

_GATEWAY: Final = frozenset(
    {
        "aiohttp", "backports", "multipart", "prometheus_client", "rich", "segno",
        "voluptuous_openapi", "zeroconf",
    }
)  # fmt: skip


def what_to_install(error: BaseException | None) -> str | None:
    """Return what to do about a failed import; None if it is not of a library of an extra."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return None
    library = error.name.partition(".")[0]
    if library not in _GATEWAY:
        return None
    return f"{library} is not installed here: pip install 'swarm-hub[gateway]'"


def of_gateways(package: str, parts: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a package's `__getattr__` (PEP 562): name → the module in it that has it.

    A worker, which uses none of these names, then imports none of these modules.
    """

    def find(name: str) -> Any:
        if name not in parts:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{parts[name]}"), name)

    return find
