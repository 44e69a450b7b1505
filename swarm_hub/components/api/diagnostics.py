"""`/diagnostics`: what helps to find a fault, with everything secret left out."""

import asyncio
import logging
import platform
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Self, TypedDict

from swarm_hub.const import CONFIG_FILE, SECRETS_FILE, __version__
from swarm_hub.core import Hub, StopStage
from swarm_hub.endpoints import Json, Request, Scope, View
from swarm_hub.exceptions import StoreError
from swarm_hub.util.clock import isoformat
from swarm_hub.util.event_loop import event_loop_name
from swarm_hub.util.printable import printable
from swarm_hub.util.redaction import without_secrets
from swarm_hub.util.yaml_loader import read_yaml, texts_in

_LINES_KEPT: Final = 200
_LINE_MAX_CHARS: Final = 500
_LIBRARIES: Final = (
    "aiohttp", "alembic", "cryptography", "libp2p", "prometheus-client", "psutil", "psycopg",
    "pynacl", "sqlalchemy", "trio", "uvloop", "voluptuous", "wasmtime",
)  # fmt: skip


class DiagnosticsShape(TypedDict):
    """What is known of a hub that helps to find a fault."""

    time: str
    versions: dict[str, str]
    platform: dict[str, str]
    components: list[str]
    status: dict[str, Any]
    health: dict[str, Any]
    store: dict[str, Any]
    configuration: dict[str, Any]
    warnings: list[str]


class WarningsKept(logging.Handler):
    """Keeps the last warnings and errors of this process, each on one short line."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: deque[str] = deque(maxlen=_LINES_KEPT)

    @classmethod
    def of(cls, hub: Hub) -> Self:
        """Keep those that come while a hub runs."""
        kept = cls()
        logger = logging.getLogger("swarm_hub")
        logger.addHandler(kept)

        async def stop() -> None:
            logger.removeHandler(kept)

        hub.on_stop(StopStage.CLOSE, "kept warnings", stop)
        return kept

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one; of an exception only what it is."""
        error = record.exc_info[1] if record.exc_info else None
        text = record.getMessage() if error is None else f"{record.getMessage()}: {error!r}"
        line = printable(text[:_LINE_MAX_CHARS]).replace("\n", "\\n")
        when = isoformat(record.created)
        self.lines.append(f"{when} {record.levelname} {record.name}: {line}")


def diagnostics_view(hub: Hub, kept: WarningsKept) -> View:
    """Return the view."""

    async def diagnostics(_request: Request) -> Json:
        """Return what helps to find a fault; secrets are left out, wherever they are."""
        configuration, secrets = await asyncio.to_thread(_configured, hub.config_dir)
        libraries = await asyncio.to_thread(lambda: dict(_libraries()))
        told: DiagnosticsShape = {
            "time": isoformat(hub.clock.time()),
            "versions": {
                "swarm_hub": __version__,
                "python": platform.python_version(),
                **libraries,
            },
            "platform": {
                "system": platform.platform(),
                "machine": platform.machine(),
                "event_loop": event_loop_name(),
            },
            "components": sorted(hub.components),
            "status": dict(await hub.control.run({"command": "status"})),
            "health": {
                "problems": await hub.repairs.problems(),
                **hub.endpoints.health(),
            },
            "store": await _store(hub),
            "configuration": configuration,
            "warnings": list(kept.lines),
        }
        return Json(without_secrets(told, secrets))

    return View("GET", "/diagnostics", diagnostics, Scope.ADMIN, DiagnosticsShape)


def _libraries() -> Iterator[tuple[str, str]]:
    for name in _LIBRARIES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def _configured(config_dir: Path) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the configuration as it is written, and what is in files of secrets."""
    found = read_yaml(config_dir / CONFIG_FILE, config_dir)
    secrets = found.secrets
    if (config_dir / SECRETS_FILE).is_file():
        # Also what none of the files asks for.
        own = read_yaml(config_dir / SECRETS_FILE, config_dir)
        found = replace(found, problems=(*found.problems, *own.problems))
        secrets |= frozenset(texts_in(own.content))
    if found.problems:
        # Without the secrets it is not known what to leave out.
        return {"problem": "it can't be read; see: swarm-hub check"}, frozenset()
    return dict(found.content or {}), secrets


async def _store(hub: Hub) -> dict[str, Any]:
    told: dict[str, Any] = {
        "shared": hub.store.shared, "full": hub.store.full, "last_seq": hub.store.last_seq,
        "busy": hub.store.busy,
    }  # fmt: skip
    try:
        told["disk_bytes"] = await hub.store.disk_bytes()
        told["volume_bytes"] = await hub.store.volume_bytes()
    except StoreError as error:
        told["error"] = type(error).__name__
    return told
