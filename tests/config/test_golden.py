"""Broken configurations with what `check` says about each, word for word.

`golden/NAME.yaml` is one, or the directory `golden/NAME` with all its files; what is said of it is
in `golden/NAME.txt`. To write that anew, review the difference: SWARM_HUB_GOLDEN=write.
"""

import os
import shutil
from pathlib import Path

import pytest

from swarm_hub import bootstrap
from swarm_hub.exceptions import ConfigError
from swarm_hub.loader import ComponentIndex

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.txt"))


def said_of(name: str, folder: Path) -> str:
    if (GOLDEN / name).is_dir():
        shutil.copytree(GOLDEN / name, folder, dirs_exist_ok=True)
    else:
        shutil.copy(GOLDEN / f"{name}.yaml", folder / "configuration.yaml")
    with pytest.raises(ConfigError) as caught:
        bootstrap.check(folder)
    lines = [f"{problem}\n" for problem in caught.value.problems]
    return "".join(lines).replace(str(folder), "FOLDER")


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_configuration_is_told_word_for_word(tmp_path: Path, name: str) -> None:
    said, expected = said_of(name, tmp_path), GOLDEN / f"{name}.txt"
    if os.environ.get("SWARM_HUB_GOLDEN") == "write":
        expected.write_text(said, encoding="utf-8")
    assert said == expected.read_text(encoding="utf-8")


def test_every_component_has_some_and_no_case_is_left_out() -> None:
    cases = {path.stem for path in GOLDEN.iterdir()}
    assert cases == set(NAMES)
    assert len(cases) >= 60
    areas = {name.partition("-")[0] for name in NAMES}
    assert areas >= {*ComponentIndex(GOLDEN).domains(), "hub", "storage", "yaml", "packages"}
