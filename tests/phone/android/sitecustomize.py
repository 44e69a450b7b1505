"""What Python itself shows on Android: `sys.platform`, and libraries that have no wheel there.

The standard library of Linux names files by `sys.platform`; what does so is imported before.
"""

import asyncio
import ctypes.util
import multiprocessing
import os
import platform
import sys
import sysconfig
import uuid

__all__ = ["asyncio", "ctypes", "multiprocessing", "uuid"]

sysconfig.get_config_vars()
platform.uname()
for name in filter(None, os.environ.get("JAIL_WITHOUT", "").split(",")):
    sys.modules[name] = None  # type: ignore[assignment]
sys.platform = "android"
