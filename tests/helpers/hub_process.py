"""A gateway started as its owner would: a directory with a configuration, and a process."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from swarm_hub.cli.swarm import free_port


def hub_dir(tmp_path: Path, extra: str = "", api_port: int | None = None) -> Path:
    """Write the configuration of a gateway that listens on free ports of loopback."""
    mesh = "" if "mesh:" in extra else "mesh: {transport: loopback}\n"
    (tmp_path / "configuration.yaml").write_text(
        f"gateway:\napi: {{port: {api_port or free_port()}}}\n{mesh}{extra}"
    )
    return tmp_path


@contextmanager
def running(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run a hub until it says that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "swarm_hub", "run", "-c", str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        lines: list[str] = []
        while not any("is ready" in line for line in lines):
            line = process.stderr.readline()
            assert line, "".join(lines)
            lines.append(line)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
