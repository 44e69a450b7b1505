"""`script/hubfest`: components are as they say; whatever is wrong is named with its file."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from script.hubfest_tools.__main__ import hubfest
from script.hubfest_tools.fault import Fault
from script.hubfest_tools.pages import faults as faults_of_page
from script.scaffold_tools.__main__ import scaffold
from swarm_hub.reference import core_sections

HEATER = Path("custom_components") / "heater"
CODE = """\
from swarm_hub.helpers import config_validation as cv

CONFIG_SCHEMA = cv.section({%s}, dict)


async def async_setup(hub, config):
    return True
"""


def said(*arguments: object) -> tuple[int, list[str]]:
    done = CliRunner().invoke(hubfest, list(map(str, arguments)), standalone_mode=False)
    assert done.exception is None, done.output
    return done.return_value, done.output.splitlines()


def made(folder: Path, keys: str = "", texts: str = "about: Heats.\n", **manifest: object) -> Path:
    """Write a component `heater` without a fault, but for what is given."""
    home = folder / HEATER
    home.mkdir(parents=True)
    (home / "README.md").touch()
    content = {
        "domain": "heater", "name": "Heater", "documentation": "README.md", "version": "1.0.0",
        **manifest,
    }  # fmt: skip
    (home / "manifest.json").write_text(json.dumps(content))
    (home / "keys.yaml").write_text(texts)
    (home / "__init__.py").write_text(CODE % keys)
    return home


def test_nothing_is_wrong_with_what_is_built_in() -> None:
    assert said() == (0, ["No component has a fault"])


def test_what_the_scaffold_writes_has_no_fault(tmp_path: Path) -> None:
    for line in ("component boiler", "platform warm --domain gc", "platform warm --domain sla"):
        done = CliRunner().invoke(scaffold, [*line.split(), "--custom", str(tmp_path)])
        assert done.exit_code == 0, done.output
    assert said(tmp_path) == (0, ["No component has a fault"])
    assert said(tmp_path / "custom_components" / "boiler")[0] == 0


KEY = 'cv.Key("every", default="1m", reloadable=False): cv.positive_duration'


@pytest.mark.parametrize(
    ("manifest", "keys", "texts", "fault"),
    [
        ({"version": ""}, "", "about: Heats.", "manifest.json: a custom component needs a version"),
        ({"domain": "cooler"}, "", "about: Heats.", "manifest.json: domain must be the folder's"),
        ({"overrides": True}, "", "about: Heats.",
         "manifest.json: overrides: there is no built-in component of that name"),
        ({"dependencies": ["mash"]}, "", "about: Heats.",
         "manifest.json: dependencies: there is no component mash"),
        ({"documentation": "nowhere.md"}, "", "about: Heats.",
         "manifest.json: documentation: 'nowhere.md' is no https:// address and no file of"),
        ({"requirements": ["pillow >> 3"]}, "", "about: Heats.",
         "manifest.json: requirements: 'pillow >> 3' is none, see PEP 508"),
        ({"serves": ["/jobs"]}, "", "about: Heats.",
         "manifest.json: serves: /jobs is claimed by gateway already"),
        ({}, "", "keys: {}", "keys.yaml: heater: about: is missing"),
        ({}, KEY, "about: Heats.", "keys.yaml: heater → every: description: is missing"),
        ({}, KEY, "about: Heats.\nkeys: {every: {description: how often, unit: s}}",
         "keys.yaml: heater → every: since: must be a version such as 0.1.0"),
        ({}, KEY, "about: Heats.\nsince: 1.0.0\nkeys: {every: {description: how often}}",
         "keys.yaml: heater → every: unit: is missing: a size has B, a duration s"),
        ({}, KEY.replace("False", "True"),
         "about: Heats.\nsince: 1.0.0\nkeys: {every: {description: how often, unit: s}}",
         "__init__.py: heater → every: reloadable, but nothing puts a Reloader into hub.reloaders"),
        ({}, "", "about: Heats.\nkeys: {evry: {description: how often}}",
         "keys.yaml: heater → evry: there is no such key"),
        ({}, "'every': int", "about: Heats.\nsince: 1.0.0\nkeys: {every: {description: how often}}",
         "__init__.py: heater → every: must be a cv.Key"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_file(
    tmp_path: Path, manifest: dict[str, object], keys: str, texts: str, fault: str
) -> None:
    made(tmp_path, keys, texts, **manifest)
    code, lines = said(tmp_path)
    assert code == 1
    assert [line.startswith(f"{HEATER}/{fault}") for line in lines] == [True], lines


def test_what_a_component_may_not_import_or_use_is_named_with_its_line(tmp_path: Path) -> None:
    home = made(tmp_path, dependencies=["mesh"])
    (home / "parts.py").write_text(
        "import os\n"
        "from swarm_hub.components.mesh import MESH\n"
        "from swarm_hub.components.mesh import wire\n"
        "from swarm_hub.components import signer\n"
        "HOME = os.environ\n"
    )
    _, lines = said(home)
    assert [line.partition("; ")[0] for line in lines] == [
        f"{HEATER}/parts.py:3: imports swarm_hub.components.mesh.wire",
        f"{HEATER}/parts.py:4: imports swarm_hub.components.signer",
        f"{HEATER}/parts.py:5: uses os.environ, which no component may",
    ]


def test_a_circle_of_two_components_is_seen(tmp_path: Path) -> None:
    home = made(tmp_path, dependencies=["heater_two"])
    other = home.with_name("heater_two")
    other.mkdir()
    for path in home.iterdir():
        text = path.read_text().replace('"heater_two"', '"heater"')
        (other / path.name).write_text(text.replace('"domain": "heater"', '"domain": "heater_two"'))
    code, lines = said(tmp_path)
    assert code == 1
    assert len(lines) == 2
    assert all("depend on each other in a circle: heater" in line for line in lines)


def test_a_component_that_can_not_be_imported_is_named_with_its_line(tmp_path: Path) -> None:
    home = made(tmp_path)
    (home / "__init__.py").write_text("\nimport nowhere\n")
    (line,) = said(home)[1]
    assert line.startswith(f"{HEATER}/__init__.py")
    assert "No module named 'nowhere'" in line


def test_a_page_without_its_table_or_a_chapter_is_told(tmp_path: Path) -> None:
    hub = core_sections()[0]
    (tmp_path / "hub.md").write_text("# hub\n\n## Keys\n\n## Events\n\n## Limits\n")
    assert list(faults_of_page(hub, tmp_path / "hub.md", "hub.md")) == [
        Fault("hub.md", "has no chapter Troubleshooting"),
        Fault(
            "hub.md",
            "lacks the lines <!-- keys of hub --> and <!-- end of keys -->, between which "
            "script/docs pages writes the table",
        ),
    ]


def test_a_folder_without_components_is_told(tmp_path: Path) -> None:
    assert said(tmp_path)[0] == 1
