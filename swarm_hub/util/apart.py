"""One piece of work among several: if it fails it is logged, and the others are still done."""

import logging
from collections.abc import Callable
from typing import Any


def apart(logger: logging.Logger, what: str, work: Callable[..., object], *args: Any) -> None:
    """Call `work`; an exception is logged as "… failed" with its traceback and goes no further."""
    try:
        work(*args)
    except Exception:
        logger.exception("%s failed", what)
