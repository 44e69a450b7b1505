"""Writes docs/openapi.json from a hub that runs every component which brings views.

python -m script.openapi_tools [FILE]
(or script/openapi, which sets up first)
"""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Final

from swarm_hub.bootstrap import start_hub
from swarm_hub.components.api.description import description, dump

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "openapi.json"
_CONFIGURATION: Final = """\
hub: {name: described}
mesh: {transport: loopback}
gateway: {admission: open}
worker: {charging_only: false}
content:
automation:
api: {port: 0}
"""


async def described(folder: Path) -> bytes:
    """Return the description of a hub that is started in that folder, and stopped again."""
    (folder / "configuration.yaml").write_text(_CONFIGURATION, encoding="utf-8")
    hub = await start_hub(folder)
    try:
        return dump(description(hub))
    finally:
        await hub.stop()


def main() -> None:
    """Write the file."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCUMENT
    with tempfile.TemporaryDirectory(prefix="swarm-hub-openapi-") as folder:
        path.write_bytes(asyncio.run(described(Path(folder))))


if __name__ == "__main__":
    main()
