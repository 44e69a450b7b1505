"""What surrounds the code: one version, a licence, and files that other programs read."""

import importlib.metadata
import tomllib
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from swarm_hub.cli import main
from swarm_hub.const import __version__

ROOT = Path(__file__).parents[1]


def project() -> dict[str, Any]:
    loaded: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return loaded


def test_the_version_is_written_in_one_file_and_everybody_gives_it() -> None:
    loaded = project()
    assert "version" not in loaded["project"]
    assert loaded["tool"]["hatch"]["version"]["path"] == "swarm_hub/const.py"
    assert importlib.metadata.version("swarm-hub") == __version__
    said = CliRunner().invoke(main, ["--version"]).output
    assert said == f"swarm-hub, version {__version__}\n"


def test_the_licence_is_named_and_its_whole_text_is_there() -> None:
    assert project()["project"]["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
