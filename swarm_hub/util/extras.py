"""What to install where a library is missing that only gateways and their clients need."""

from typing import Final

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
