"""How much memory this device has left."""

import psutil


def available_memory_bytes() -> int | None:
    """Return what new programs can have without swapping; None if the system does not tell.

    A container's own limit is not seen.
    """
    try:
        return int(psutil.virtual_memory().available)
    except (OSError, AttributeError, LookupError, ValueError, RuntimeError, psutil.Error):
        return None
