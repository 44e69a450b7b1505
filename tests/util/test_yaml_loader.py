"""YAML with places, secrets, includes, and bounds."""

from pathlib import Path
from typing import Any

import pytest

from swarm_hub.exceptions import ConfigError
from swarm_hub.util.yaml_loader import load_yaml


def load(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Any:
    path = tmp_path / "configuration.yaml"
    path.write_text(text)
    return load_yaml(path, tmp_path, environ or {})


def problem(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    (found,) = caught.value.problems
    return str(found)


def test_values_keep_file_and_line(tmp_path: Path) -> None:
    content = load(tmp_path, "hub:\n  name: a\nmesh:\n  bootnodes:\n    - x\n    - y\n")
    assert content == {"hub": {"name": "a"}, "mesh": {"bootnodes": ["x", "y"]}}
    assert content.places["mesh"].line == 3
    assert content["mesh"]["bootnodes"].places[1].line == 6
    assert content["hub"].places["name"].file == "configuration.yaml"


def test_scalars_have_yaml_types(tmp_path: Path) -> None:
    content = load(tmp_path, "a: 1\nb: 1.5\nc: true\nd: null\ne: '1'\nf: 24h\n")
    assert content == {"a": 1, "b": 1.5, "c": True, "d": None, "e": "1", "f": "24h"}


def test_secret_env_var_and_include(tmp_path: Path) -> None:
    (tmp_path / "secrets.yaml").write_text("key: hidden\n")
    (tmp_path / "mesh.yaml").write_text("mdns: false\n")
    content = load(
        tmp_path,
        "a: !secret key\nb: !env_var NAME\nc: !env_var OTHER fallback\nmesh: !include mesh.yaml\n",
        {"NAME": "value"},
    )
    assert content == {"a": "hidden", "b": "value", "c": "fallback", "mesh": {"mdns": False}}
    assert content["mesh"].places["mdns"].file == "mesh.yaml"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: [1\n", "configuration.yaml:2: the [ that begins here is not closed: 'b: [1'"),
        ("a: 1\na: 2\n", "configuration.yaml:2: a is given twice, first in line 1"),
        ("a: !secret none\n", "there is no secrets.yaml"),
        ("a: !env_var NOPE\n", "the environment variable NOPE is not set"),
        ("a: !include ../other.yaml\n", "outside the configuration directory"),
        ("a: !include none.yaml\n", "none.yaml does not exist"),
        ("a: !include configuration.yaml\n", "includes itself"),
        ("a: !!python/object:os.system x\n", "can't be read"),
        ("a: !shell x\n", "unknown tag !shell"),
        ("1: a\n", "a key must be text"),
        ("a: " + "[" * 60 + "]" * 60, "nested deeper"),
    ],
)
def test_what_is_refused_names_the_line(tmp_path: Path, text: str, said: str) -> None:
    assert said in problem(tmp_path, text)


def test_an_alias_bomb_meets_the_budget(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "more than 20000 values" in problem(tmp_path, "\n".join(lines))


def test_a_symlink_out_of_the_directory_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "config"
    inside.mkdir()
    (tmp_path / "outside.yaml").write_text("a: 1\n")
    (inside / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    with pytest.raises(ConfigError, match="outside the configuration directory"):
        load(inside, "a: !include link.yaml\n")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    assert "larger than 1 MiB" in problem(tmp_path, "a: '" + "x" * 1024 * 1024 + "'\n")
