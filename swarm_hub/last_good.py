"""What is kept of the last configuration with which a hub started, in case the next is broken."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from swarm_hub.config import Configuration
from swarm_hub.const import LAST_GOOD_FILE, STORAGE_DIR
from swarm_hub.core import Hub
from swarm_hub.plan import Plan
from swarm_hub.util.bounds import is_int, is_text
from swarm_hub.util.files import write_atomic

_LOGGER = logging.getLogger(__name__)

_FILE_MAX_BYTES: Final = 64 * 1024
_NAME_MAX_CHARS: Final = 64


@dataclass(frozen=True, slots=True)
class LastGood:
    """A hub that had an API: its name, where it listened, and `api: tls` as it was written."""

    name: str
    host: str
    port: int
    tls: Mapping[str, Any] | None

    @classmethod
    def read(cls, config_dir: Path) -> Self | None:
        """Return the record of a directory; None if there is none that can be used."""
        path = config_dir / STORAGE_DIR / LAST_GOOD_FILE
        try:
            with path.open("rb") as file:
                found = json.loads(file.read(_FILE_MAX_BYTES))
            name, api = found["name"], found["api"]
            if api is None:
                return None
            host, port, tls = api["host"], api["port"], api["tls"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            _LOGGER.warning("%s can't be read: %r", path, error)
            return None
        if not (is_text(name, _NAME_MAX_CHARS) and is_text(host) and is_int(port, 0, 65535)):
            return None
        return cls(name, host, port, tls) if tls is None or isinstance(tls, dict) else None


def remember(hub: Hub, configuration: Configuration, planned: Plan) -> None:
    """Keep it of a hub that has just started; what is there already is not written again."""
    api = None
    for each in planned.components:
        if each.manifest.domain == "api" and "api" in hub.components:
            section = configuration.sections.get("api") or {}
            host, port = (getattr(each.config, key, None) for key in ("host", "port"))
            api = {"host": host, "port": port, "tls": section.get("tls")}
    content = json.dumps({"name": hub.name, "api": api}).encode()
    path = hub.storage_path(LAST_GOOD_FILE)
    try:
        if not path.exists() or path.read_bytes() != content:
            write_atomic(path, content)
    except OSError as error:
        # The hub runs; without the record there is no recovery.
        _LOGGER.warning("%s can't be written: %s", path, error.strerror)
