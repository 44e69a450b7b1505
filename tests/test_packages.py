"""Packages: merged key by key, lists joined, and what is given twice names both places."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from swarm_hub import bootstrap, preflight
from swarm_hub.cli import main
from swarm_hub.exceptions import ConfigError

HUB = "hub:\n  name: a\n  packages: !include_dir_named packages\n"
KEYS = ["ab" * 32, "cd" * 32]


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def configs(folder: Path, **files: str) -> dict[str, object]:
    write(folder, files)
    _, planned = bootstrap.check(folder)
    return {each.manifest.domain: each.config for each in planned.components}


def problems(folder: Path, files: dict[str, str]) -> list[str]:
    write(folder, files)
    with pytest.raises(ConfigError) as caught:
        bootstrap.check(folder)
    return [str(problem) for problem in caught.value.problems]


def test_sections_are_merged_key_by_key_and_lists_are_joined(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "configuration.yaml": f"{HUB}gateway:\n  jobs: 5\nsigner:\n  trust:\n    - {KEYS[0]}\n"
            "storage:\n",
            "packages/night.yaml": "worker:\n  node_labels: {a: x}\ngateway:\n  redundancy: 2\n",
            "packages/room/more.yaml": f"worker:\n  node_labels: {{b: y}}\nsigner:\n  ttl: 30\n"
            f"  trust: [{KEYS[1]}]\nstorage:\n  min_free: 1MiB\n",
            "packages/room/empty.yaml": "# nothing yet\n",
        },
    )
    configuration, planned = bootstrap.check(tmp_path)
    found = {each.manifest.domain: each.config for each in planned.components}
    assert (found["gateway"].jobs, found["gateway"].redundancy) == (5, 2)  # type: ignore[attr-defined]
    assert found["worker"].node_labels == {"a": "x", "b": "y"}  # type: ignore[attr-defined]
    assert found["signer"].ttl_s == 30  # type: ignore[attr-defined]
    assert [each.hex() for each in found["signer"].trust] == KEYS  # type: ignore[attr-defined]
    assert configuration.storage.min_free_bytes == 1024**2
    assert configuration.hub.packages == ("night", "empty", "more")
    assert configuration.files == (
        "configuration.yaml", "packages/night.yaml", "packages/room/empty.yaml",
        "packages/room/more.yaml",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"configuration.yaml": f"{HUB}gateway:\n  jobs: 5\n",
             "packages/a.yaml": "gateway:\n  receipts: all\n  jobs: 6\n"},
            ["packages/a.yaml:3: gateway → jobs: is given already in configuration.yaml:5; remove "
             "one of the two"],
        ),
        (
            {"configuration.yaml": f"{HUB}gateway:\n", "packages/a.yaml": "hub:\n  name: b\n",
             "packages/b.yaml": "gateway: 5\n", "packages/c.yaml": "gateway:\n  jobs: 1\n"},
            ["packages/a.yaml:2: hub → name: is given already in configuration.yaml:2; remove one "
             "of the two",
             "packages/b.yaml:1: gateway: expected keys and values below it, each on its own line",
             "packages/c.yaml:1: gateway: is given already in packages/b.yaml:1; remove one of the "
             "two"],
        ),
        (
            {"configuration.yaml": f"{HUB}gateway:\n",
             "packages/a.yaml": "hub:\n  packages:\n    x: {}\n"},
            ["packages/a.yaml:2: hub → packages: a package can't have packages; name them in the "
             "configuration"],
        ),
        (
            {"configuration.yaml": f"{HUB}gateway:\n", "packages/a.yaml": "gateway: {jobz: 5}\n",
             "packages/b.yaml": "gatewy:\n", "packages/c.yaml": "- gateway\n"},
            ["packages/a.yaml:1: gateway → jobz: unknown key; did you mean jobs?",
             "packages/b.yaml:1: gatewy: there is no such component; did you mean gateway?",
             "packages/c.yaml:1: hub → packages → c: expected sections such as `gateway:`"],
        ),
        (
            {"configuration.yaml": "hub:\n  packages: [a]\ngateway:\n"},
            ["configuration.yaml:2: hub → packages: expected names, each with sections below it, "
             "or !include_dir_named DIRECTORY"],
        ),
        (
            {"configuration.yaml": "hub:\n  packages:\n    a:\n      gateway:\n        jobs: 5\n"
             "    b:\n      gateway:\n        jobs: 6\n"},
            ["configuration.yaml:8: gateway → jobs: is given already in configuration.yaml:5; "
             "remove one of the two"],
        ),
        (
            {"configuration.yaml": HUB, "packages/x.yaml": "gateway:\n", "packages/y/x.yaml": ""},
            ["configuration.yaml:3: packages/y/x.yaml has the same name as packages/x.yaml; rename "
             "one of them"],
        ),
    ],
)  # fmt: skip
def test_what_packages_disagree_about_names_both_places(
    tmp_path: Path, files: dict[str, str], said: list[str]
) -> None:
    assert problems(tmp_path, files) == said


def test_a_backup_has_packages_and_their_secrets_and_check_warns_of_what_it_leaves_out(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "hub"
    files = {
        "configuration.yaml": f"{HUB}gateway: !include parts/gateway.conf\n"
        "mesh: {transport: loopback, bulk: false}\n",
        "packages/a.yaml": "telemetry:\n  interval: !secret pause\n",
        "packages/secrets.yaml": "pause: 77\n",
        "parts/gateway.conf": "jobs: 5\n",
    }
    write(folder, files)
    found = preflight.everything(folder)[2]
    assert [(each.stops, str(each.problem)) for each in found] == [
        (False, "parts/gateway.conf: backups leave it out; have it end with .yaml, and in no "
         "hidden folder")
    ]  # fmt: skip
    (folder / "parts/gateway.conf").rename(folder / "parts/gateway.yaml")
    write(folder, {"configuration.yaml": files["configuration.yaml"].replace(".conf", ".yaml")})
    run = CliRunner()
    made = run.invoke(main, ["backup", "-c", str(folder)], standalone_mode=False)
    other = tmp_path / "other"
    arguments = ["restore", made.stdout.strip(), "-c", str(other)]
    assert run.invoke(main, arguments, standalone_mode=False).exception is None
    told = run.invoke(main, ["check", "-c", str(other), "--json"], standalone_mode=False)
    assert json.loads(told.stdout)["valid"] is True
    assert configs(other)["telemetry"].interval_s == 77.0  # type: ignore[attr-defined]
