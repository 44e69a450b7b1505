"""Names of threads as `top -H` shows them; Python before 3.14 keeps them to itself."""

import contextlib
import ctypes
import sys
import threading
from typing import Final

# prctl(2); the kernel keeps 15 bytes.
_PR_SET_NAME: Final = 15
_NAME_BYTES: Final = 15


def show_name() -> None:
    """Give the running thread the name in the kernel that it has in Python."""
    if sys.version_info >= (3, 14):
        return
    name = threading.current_thread().name.encode(errors="replace")[:_NAME_BYTES]
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name, 0, 0, 0)
