"""YAML with places, secrets, includes, and bounds."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from swarm_hub.exceptions import ConfigError
from swarm_hub.util.yaml_loader import Place, load_yaml, read_yaml


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


def test_directories_are_included_by_name_and_as_lists(tmp_path: Path) -> None:
    for name, text in {
        "a.yaml": "x: 1\n", "sub/b.yml": "y: 2\n", "sub/secrets.yaml": "z: 3\n",
        "sub/.hidden.yaml": "z: 3\n", ".git/c.yaml": "z: 3\n", "notes.txt": "z: 3\n",
    }.items():  # fmt: skip
        path = tmp_path / "maps" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "1.yaml").write_text("- p\n- q\n")
    (tmp_path / "lists" / "2.yaml").write_text("# none\n")
    (tmp_path / "lists" / "3.yaml").write_text("- r\n")
    content = load(
        tmp_path,
        "named: !include_dir_named maps\nlist: !include_dir_list maps\n"
        "merged: !include_dir_merge_named maps\njoined: !include_dir_merge_list lists\n",
    )
    assert content == {
        "named": {"a": {"x": 1}, "b": {"y": 2}}, "list": [{"x": 1}, {"y": 2}],
        "merged": {"x": 1, "y": 2}, "joined": ["p", "q", "r"],
    }  # fmt: skip
    assert content["named"].places["b"].file == "maps/sub/b.yml"
    assert content["merged"].places["y"] == Place("maps/sub/b.yml", 1)
    assert content["joined"].places[2] == Place("lists/3.yaml", 1)
    assert content.places["list"].tag == "!include_dir_list maps"


def test_what_directories_disagree_about_names_both_places(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "a.yaml").write_text("x: 1\n")
    (tmp_path / "parts" / "b.yaml").write_text("y: 1\nx: 2\n")
    found = problem(tmp_path, "m: !include_dir_merge_named parts\n")
    assert found == "parts/b.yaml:2: x is given twice, first in parts/a.yaml:1"
    (tmp_path / "parts" / "a.yaml").unlink()
    found = problem(tmp_path, "l:\n  !include_dir_merge_list parts\n")
    assert found == (
        "parts/b.yaml:1: expected a list, as configuration.yaml:2 merges what is in it"
    )
    assert "none is no directory" in problem(tmp_path, "l: !include_dir_list none\n")
    (tmp_path / "parts" / "c").symlink_to(tmp_path)
    assert "parts/c is a link; include that" in problem(tmp_path, "l: !include_dir_list parts\n")


def test_a_secret_is_looked_for_from_the_including_directory_upwards(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "part.yaml").write_text("near: !secret one\nfar: !secret two\nmiddle: !secret three\n")
    (inner / "secrets.yaml").write_text("one: inner\n")
    (tmp_path / "a" / "secrets.yaml").write_text("one: middle\nthree: middle\n")
    (tmp_path / "secrets.yaml").write_text("one: outer\ntwo: outer\nthree: outer\n")
    content = load(tmp_path, "part: !include a/b/part.yaml\nown: !secret one\n")
    assert content == {
        "part": {"near": "inner", "far": "outer", "middle": "middle"},
        "own": "outer",
    }
    found = read_yaml(tmp_path / "configuration.yaml", tmp_path)
    assert found.secrets == {"inner", "middle", "outer"}
    assert found.files == (
        "configuration.yaml", "a/b/part.yaml", "a/b/secrets.yaml", "a/secrets.yaml", "secrets.yaml"
    )  # fmt: skip
    (inner / "part.yaml").write_text("near: !secret four\n")
    assert problem(tmp_path, "part: !include a/b/part.yaml\n") == (
        "a/b/part.yaml:1: !secret four: there is no such key in a/b/secrets.yaml or "
        "a/secrets.yaml or secrets.yaml"
    )


def test_all_problems_of_values_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "part.yaml").write_text("x: !env_var NOPE\n")
    text = "a: !secret none\nb: !include part.yaml\nb: 2\nc: [!what x]\n1: 2\n"
    (tmp_path / "configuration.yaml").write_text(text)
    found = read_yaml(tmp_path / "configuration.yaml", tmp_path, {})
    assert [(each.file, each.line) for each in found.problems] == [
        ("configuration.yaml", 1), ("part.yaml", 1), ("configuration.yaml", 3),
        ("configuration.yaml", 4), ("configuration.yaml", 5),
    ]  # fmt: skip


def test_circles_depth_and_number_of_files_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("x: !include b.yaml\n")
    (tmp_path / "b.yaml").write_text("x: !include a.yaml\n")
    assert problem(tmp_path, "x: !include a.yaml\n") == "b.yaml:1: a.yaml includes itself"
    for n in range(20):
        (tmp_path / f"n{n}.yaml").write_text(f"x: !include n{n + 1}.yaml\n")
    assert "over more than 16 levels" in problem(tmp_path, "x: !include n0.yaml\n")
    (tmp_path / "many").mkdir()
    for n in range(501):
        (tmp_path / "many" / f"{n}.yaml").touch()
    assert "many has more than 500 files" in problem(tmp_path, "x: !include_dir_list many\n")
    large = "# " + "x" * (1024 * 1023) + "\n"
    for n in range(9):
        (tmp_path / f"large{n}.yaml").write_text(large)
    text = "".join(f"l{n}: !include large{n}.yaml\n" for n in range(9))
    assert "all files together are larger than 8 MiB" in problem(tmp_path, text)


def test_what_is_no_regular_file_or_the_hubs_own_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "pipes").mkdir()
    os.mkfifo(tmp_path / "pipes" / "pipe.yaml")
    assert load(tmp_path, "x: !include_dir_list pipes\n") == {"x": []}
    os.mknod(tmp_path / "socket.yaml", stat.S_IFSOCK | 0o600)
    assert "socket.yaml is no file" in problem(tmp_path, "x: !include socket.yaml\n")
    (tmp_path / ".storage").mkdir()
    (tmp_path / ".storage" / "x.yaml").touch()
    assert "the hub's own" in problem(tmp_path, "x: !include .storage/x.yaml\n")
    (tmp_path / "folder").mkdir()
    assert "see !include_dir_named" in problem(tmp_path, "x: !include folder\n")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    assert "larger than 1 MiB" in problem(tmp_path, "a: '" + "x" * 1024 * 1024 + "'\n")
