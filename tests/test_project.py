"""What surrounds the code: one version, a licence, and files that other programs read."""

import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
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


YAML_FILES = sorted([ROOT / ".pre-commit-config.yaml", *(ROOT / ".github").rglob("*.yml")])


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: path.name)
def test_what_other_programs_read_is_yaml(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


def test_continuous_integration_runs_what_everybody_runs_and_may_write_nothing() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    ran = {
        name: [step["run"] for step in job["steps"] if "run" in step]
        for name, job in workflow["jobs"].items()
    }
    assert ran == {"test": ["bash .ci/run"], "newest-python": ["script/test --fast"]}
    assert all(job["timeout-minutes"] <= 60 for job in workflow["jobs"].values())


def test_the_hooks_are_scripts_of_this_repository() -> None:
    loaded = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (repository,) = loaded["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        assert (ROOT / hook["entry"].split()[0]).is_file(), hook["id"]


def test_the_changelog_has_the_version_or_says_that_it_is_to_come() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d\S*)\] - \d{4}-\d\d-\d\d$", text, re.MULTILINE)
    assert text.count("## [Unreleased]") == 1
    assert __version__ in released or f"becomes {__version__}" in text


def test_contributing_names_only_scripts_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for name in re.findall(r"`(script/[a-z0-9_]+)", text):
        assert (ROOT / name).is_file(), name
