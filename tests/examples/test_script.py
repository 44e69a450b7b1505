"""`script/example`: lists, builds, runs and cleans up; says what is wrong."""

import os
import signal
import subprocess
import time
import tomllib
from pathlib import Path

import psutil
import pytest

from script.example_tools import build, catalog
from swarm_hub.exceptions import HubError

ROOT = Path(__file__).parents[2]


def script(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [ROOT / "script" / "example", *arguments], capture_output=True, timeout=60, check=False
    )


def test_without_a_name_it_lists_the_examples_with_a_line_each() -> None:
    done = script()
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert [line.split()[0] for line in lines] == catalog.names()
    assert all(len(line) < 100 and len(line.split()) > 4 for line in lines)


def test_an_unknown_name_is_a_usage_error_that_names_the_examples() -> None:
    done = script("mandelbrod")
    assert (done.returncode, done.stdout) == (2, b"")
    said = done.stderr.decode()
    assert "there is no example 'mandelbrod'; did you mean mandelbrot?" in said
    assert all(name in said for name in catalog.names())


def test_an_example_runs_on_real_processes_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "script" / "example", "groupby", "--workers", "1"],
        capture_output=True, timeout=60, check=False, env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b'{"rows":30,"skipped":1,"sums":{')
    assert b"31 of 31 items" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ignored", ["", "INT"])
def test_a_terminated_run_ends_its_swarm(tmp_path: Path, ignored: str) -> None:
    """Also one that a shell started in the background, where Ctrl-C is ignored."""
    with subprocess.Popen(
        ["sh", "-c", f"trap '' {ignored}; exec \"$@\"" if ignored else "exec \"$@\"", "sh",
         ROOT / "script" / "example", "primes"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:  # fmt: skip
        assert process.stderr is not None
        line = b" "
        while line and not line.startswith(b"Starting"):
            line = process.stderr.readline()
        hubs = until_hubs(process.pid)
        # The first is the gateway, without which the run is not done before the signal.
        hubs[0].suspend()
        process.send_signal(signal.SIGTERM)
        hubs[0].resume()
        assert process.wait(30) == 130
    assert not any(hub.is_running() for hub in hubs)
    assert list(tmp_path.iterdir()) == []


def until_hubs(pid: int) -> list[psutil.Process]:
    deadline = time.monotonic() + 30
    while not (hubs := psutil.Process(pid).children()):
        assert time.monotonic() < deadline, "no hub was started"
        time.sleep(0.001)
    return hubs


@pytest.mark.parametrize("name", catalog.names())
def test_each_example_has_its_source_and_a_readme_that_says_how_to_run_it(name: str) -> None:
    example = catalog.read(name)
    assert example.source.is_file()
    assert example.then is None or example.then.is_file()
    readme = (catalog.EXAMPLES / name / "README.md").read_text("utf-8")
    assert f"script/example {name}" in readme
    assert "--reduce" in readme
    assert len(readme.splitlines()) <= 25


def test_a_mistake_in_an_example_is_told_with_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    path = tmp_path / "mine" / "example.toml"
    monkeypatch.setattr(catalog, "EXAMPLES", tmp_path)
    for text, problem in (
        ("summary = ", "TOMLDecodeError"),
        ("summary = 'x'\nsource = 'x.c'", "KeyError: 'job'"),
        ("summary = 'x'\nsource = 'x.c'\n[job]\ninputs = ['*.csv']", "no file fits"),
        ("summary = 'x'\nsource = 'x.c'\n[job]\nrange = [1]", "ValueError"),
    ):
        path.write_text(text)
        with pytest.raises(HubError, match=f"{path}: .*{problem}"):
            catalog.read("mine")


def test_a_compilers_complaint_is_shown_and_makes_no_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "PRODUCTS", tmp_path / "products")
    source = tmp_path / "wrong.c"
    source.write_text("int broken(void) { return }\n")
    with pytest.raises(HubError, match=r"refused the example:\n(.|\n)*wrong\.c:1"):
        build.build(source)
    assert not list((tmp_path / "products").rglob("*.wasm"))


def test_a_source_without_a_compiler_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "job.rs"
    source.write_text("")
    with pytest.raises(HubError, match=r"no compiler for '\.rs'"):
        build.build(source)


def test_only_a_changed_source_is_compiled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "PRODUCTS", tmp_path / "products")
    source = tmp_path / "answer.c"
    text = '__attribute__((export_name("map"))) int map(void) {{ return {}; }}\n'
    source.write_text(text.format(1))
    product = build.build(source)
    first, made_at = product.read_bytes(), product.stat().st_mtime_ns
    assert build.build(source) == product
    assert product.stat().st_mtime_ns == made_at
    source.write_text(text.format(2))
    assert build.build(source).read_bytes() != first


def test_the_tools_are_pinned_without_a_registrys_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert set(extras["examples"]) <= set(extras["test"])
    assert "\nziglang==" in (ROOT / "constraints.txt").read_text()
    for name in ("package.json", "package-lock.json"):
        assert "://" not in (ROOT / "script" / "example_tools" / name).read_text().replace(
            "https://opencollective.com", ""
        )
