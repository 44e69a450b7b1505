"""The page's modules by themselves, in node: formats, routes, and that no event is lost."""

import asyncio
import os
import shutil
from pathlib import Path

from swarm_hub.components import frontend

PAGE = Path(frontend.__file__).parent / "page"
TESTS = Path(__file__).parent / "modules"


async def test_the_modules_do_what_they_say(tmp_path: Path) -> None:
    # Beside a package.json, so that node takes them for what they are.
    shutil.copytree(PAGE, tmp_path / "page")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    copies = [shutil.copy(file, tmp_path) for file in sorted(TESTS.glob("*.mjs"))]
    tests = [file for file in copies if str(file).endswith(".test.mjs")]
    node = await asyncio.create_subprocess_exec(
        "node",
        "--test",
        *tests,
        env={**os.environ, "TZ": "UTC", "LANG": "en_US.UTF-8"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await node.communicate()
    assert node.returncode == 0, told.decode()
