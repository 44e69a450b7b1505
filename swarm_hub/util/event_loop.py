"""The event loop of a hub: uvloop's where that is installed, else asyncio's own."""

import asyncio
import importlib


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a new event loop."""
    try:
        loop: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
    except ImportError:
        return asyncio.new_event_loop()
    return loop


def event_loop_name() -> str:
    """Return the library that a hub's event loop is of, with its version if it is not Python's."""
    try:
        return f"uvloop {importlib.import_module('uvloop').__version__}"
    except ImportError:
        return "asyncio"
