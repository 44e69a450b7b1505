"""The configuration directory: every mistake is named with its file, its line and the way out."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from swarm_hub import bootstrap
from swarm_hub.cli import main
from swarm_hub.exceptions import ConfigError, SetupError
from swarm_hub.loader import ComponentIndex
from swarm_hub.storage.queries import events
from tests.conftest import Swarm
from tests.helpers.rest import call
from tests.helpers.sections import platforms

STRATEGIES = ", ".join(sorted(platforms("scheduler")))
MANIFEST = {"name": "Mine", "documentation": "docs/mine.md", "version": "1.0"}
COMPONENT = """\
import voluptuous as vol
from swarm_hub.core import HubKey
from swarm_hub.helpers import config_validation as cv

KEY = HubKey[str]("mine")
CONFIG_SCHEMA = cv.section({vol.Optional("word", default="hello"): str}, dict)

async def async_setup(hub, config):
    hub.services[KEY] = config["word"]
    return True
"""


def write(folder: Path, text: str, name: str = "configuration.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def custom(folder: Path, domain: str, code: str | None, /, **manifest: object) -> None:
    """Write a component of the user's own."""
    home = folder / "custom_components" / domain
    content = {"domain": domain, **MANIFEST, **manifest}
    write(home, json.dumps({k: v for k, v in content.items() if v is not None}), "manifest.json")
    if code is not None:
        write(home, code, "__init__.py")


def problems(folder: Path, text: str) -> list[str]:
    write(folder, text)
    with pytest.raises(ConfigError) as caught:
        bootstrap.check(folder)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gateway:\n  redundncy: 1\n",
         "configuration.yaml:2: gateway → redundncy: unknown key; did you mean redundancy?"),
        ("gateway:\n  zzzz: 1\n",
         "configuration.yaml:2: gateway → zzzz: unknown key; known keys: redundancy, receipts, "
         "admission, dataset, jobs, jobs_per_owner, wall_time, uploads, keep_uploads"),
        ("gateway:\n  redundancy: 8\n",
         "configuration.yaml:2: gateway → redundancy: expected a whole number from 1 to 7 "
         "or adaptive, got 8"),
        ("gateway:\n\n  admission: opne\n",
         "configuration.yaml:3: gateway → admission: expected one of open, token, manual, "
         "got 'opne'; did you mean open?"),
        ("gateway: 5\n",
         "configuration.yaml:1: gateway: expected keys and values below it, each on its own line"),
        ("gateway:\nscheduler: false\n",
         "configuration.yaml:2: scheduler: false switches off only what comes by itself, such as "
         "frontend; to do without this, take the line out"),
        ("gateway:\nfrontend: true\n",
         "configuration.yaml:2: frontend: expected keys and values below it, each on its own line"),
        ("gateway: [a]\n",
         "configuration.yaml:1: gateway: expected keys and values below it, each on its own line"),
        ("gateway:\napi:\n  tls:\n    certificate: a.pem\n",
         "configuration.yaml:4: api → tls → certificate: key: is needed beside it"),
        ("gateway:\napi:\n  tls:\n    self_signed: true\n    key: a.pem\n",
         "configuration.yaml:5: api → tls → key: a self_signed certificate has its own files"),
        ("gateway:\napi:\n  tls:\n    self_sgned: true\n",
         "configuration.yaml:4: api → tls → self_sgned: unknown key; did you mean self_signed?"),
        ("gateway:\napi:\n  tls: {}\n",
         "configuration.yaml:3: api → tls: expected certificate: and key:, or self_signed: true"),
        ("gateway:\napi:\n  tls: {self_signed: yes please}\n",
         "configuration.yaml:3: api → tls → self_signed: expected true or false, got "
         "'yes please'"),
        ("gateway:\napi:\n  cors_allowed_origins:\n    - https://a.example\n    - '*'\n",
         "configuration.yaml:5: api → cors_allowed_origins → 1: name each origin, such as "
         "https://dashboard.example.org; * is refused"),
        ("gateway:\napi:\n  cors_allowed_origins: [https://a.example/x]\n",
         "configuration.yaml:3: api → cors_allowed_origins → 0: expected an origin such as "
         "https://dashboard.example.org:8443, without a path, got 'https://a.example/x'"),
        ("gatewy:\n",
         "configuration.yaml:1: gatewy: there is no such component; did you mean gateway?"),
        ("hub: {name: a}\nstorage:\n",
         "configuration.yaml: neither gateway: nor worker: is configured; this hub would do "
         "nothing"),
        ("hub:\n  nmae: a\n", "configuration.yaml:2: hub → nmae: unknown key; did you mean name?"),
        ("hub: {name: 5}\n", "configuration.yaml:1: hub → name: expected text"),
        ("storage:\n  url: mysql://x\n",
         "configuration.yaml:2: storage → url: expected sqlite:///swarm_hub.db or "
         "postgresql://user:password@host/database, got 'mysql://x'"),
        ("gateway:\nscheduler:\n  platform: adaptve\n",
         f"configuration.yaml:3: scheduler → platform: expected one of {STRATEGIES}, "
         "got 'adaptve'; did you mean adaptive?"),
        ("gateway:\nscheduler:\n  platform: strategy\n",
         f"configuration.yaml:3: scheduler → platform: expected one of {STRATEGIES}, "
         "got 'strategy'"),
        ("gateway:\nsla: {platform: fixed, deadlin: 3}\n",
         "configuration.yaml:2: sla → deadlin: unknown key; did you mean deadline?"),
        ("gateway:\nsla:\n  factor: 0.5\n",
         "configuration.yaml:3: sla → factor: expected a number from 1 to 100, got 0.5"),
        ("gateway:\ngc: {platform: ttl, unread_after: soon}\n",
         "configuration.yaml:2: gc → unread_after: expected a duration such as 300 or 24h "
         "(units: ms, s, m, h, d), got 'soon'"),
        ("worker:\n  charging_only: yess\n",
         "configuration.yaml:2: worker → charging_only: expected true or false, got 'yess'"),
        ("worker:\n  slots: many\n",
         "configuration.yaml:2: worker → slots: expected auto or a whole number from 1 to 256"),
        ("worker:\n  min_battery: 101\n",
         "configuration.yaml:2: worker → min_battery: expected a number from 0 to 100, got 101"),
        ("worker:\n  min_battery: 50\n  resume_battery: 40\n",
         "configuration.yaml:3: worker → resume_battery: expected at least min_battery (50), "
         "got 40"),
        ("worker:\n  resume_battery: 101\n",
         "configuration.yaml:2: worker → resume_battery: expected auto or a number from 0 to 100"),
        ("worker:\n  battery_unknown: runn\n",
         "configuration.yaml:2: worker → battery_unknown: expected one of stop, run, got 'runn'; "
         "did you mean run?"),
        ("worker:\n  plug: [ac, solar]\n",
         "configuration.yaml:2: worker → plug: expected any, or a list of ac, usb, wireless, dock, "
         "got 'solar'"),
        ("worker:\n  plug: []\n",
         "configuration.yaml:2: worker → plug: expected any, or a list of ac, usb, wireless, dock, "
         "got None"),
        ("worker:\n  plug: ac\n",
         "configuration.yaml:2: worker → plug: expected any, or a list of ac, usb, wireless, dock, "
         "got 'ac'"),
        ("worker:\n  on_battery:\n    slots: 0\n",
         "configuration.yaml:3: worker → on_battery → slots: expected a whole number from 1 to "
         "256, got 0"),
        ("worker:\n  on_battery: {slot: 1}\n",
         "configuration.yaml:2: worker → on_battery → slot: unknown key; did you mean slots?"),
        ("worker:\n  on_battery: 5\n",
         "configuration.yaml:2: worker → on_battery: expected keys and values such as "
         "{slots: 1, min_battery: 60}, got 5"),
        ("worker:\n  networks: wifi\n",
         "configuration.yaml:2: worker → networks: expected one of any, unmetered, got 'wifi'"),
        ("worker:\n  pause_above_load: 0\n",
         "configuration.yaml:2: worker → pause_above_load: expected a number from 0.01 to 1000, "
         "got 0"),
        ("worker:\n  hours: always\n",
         "configuration.yaml:2: worker → hours: expected any, or days with their hours such as "
         "{mon-fri: \"22:00-07:00\", sat-sun: any}, got 'always'"),
        ("worker:\n  hours:\n    mon-fri: any\n    weekend: any\n",
         "configuration.yaml:4: worker → hours → weekend: expected a day or days such as mon-fri "
         "(mon, tue, wed, thu, fri, sat, sun), got 'weekend'"),
        ("worker:\n  hours:\n    mon: 22:00\n",
         "configuration.yaml:3: worker → hours → mon: expected any, none, or hours in quotes such "
         "as \"22:00-07:00\", got 1320"),
        ("worker:\nsandbox:\n  memory: lots\n",
         "configuration.yaml:3: sandbox → memory: expected a size such as 128MiB (units: b, kb, "
         "mb, gb, kib, mib, gib), got 'lots'"),
        ("worker:\nsigner:\n  trust:\n    - abc\n",
         "configuration.yaml:4: signer → trust → 0: expected a signer's public key (64 hex "
         "digits, see `swarm-hub key show`), got 'abc'"),
        ("worker:\nsigner: {ttl: 0}\n",
         "configuration.yaml:2: signer → ttl: expected a whole number from 1 to 300, got 0"),
        ("worker:\nmesh: {heartbeat: 0}\n",
         "configuration.yaml:2: mesh → heartbeat: expected a duration above 0"),
        ("worker:\ntelemetry: {interval: -1}\n",
         "configuration.yaml:2: telemetry → interval: a duration must be finite and not "
         "negative, got -1"),
        ("gateway:\napi:\n  port: 70000\n",
         "configuration.yaml:3: api → port: expected a whole number from 0 to 65535, got 70000"),
        ("gateway:\napi:\n  host: 'a b'\n",
         "configuration.yaml:3: api → host: expected an IP address or host name, got 'a b'"),
        ("gateway:\nsecret: !secret none\n", None),
        ("gateway:\n  dataset: !env_var SWARM_HUB_TEST_UNSET\n", None),
        ("- gateway\n", "configuration.yaml:1: expected sections such as `gateway:`"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_file_line_path_and_what_to_do(
    tmp_path: Path, text: str, expected: str | None
) -> None:
    (found,) = problems(tmp_path, text)
    if expected is None:
        assert found.startswith("configuration.yaml:")
    else:
        assert found == expected


@pytest.mark.parametrize("address", ["/ip4/1.2.3.4", "1.2.3.4:4001", "/ip4/1.2.3.400/tcp/1", 5])
def test_a_wrong_address_is_named(tmp_path: Path, address: object) -> None:
    (found,) = problems(tmp_path, f"worker:\nmesh:\n  listen:\n    - {address}\n")
    assert found.startswith("configuration.yaml:4: mesh → listen → 0: ")


def test_every_problem_is_found_at_once(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        "gateway:\n  redundancy: x\n  admision: open\nworker:\n  slots: 0\napi: {port: -1}\n",
    )
    assert sorted(each.split(": ")[0] for each in found) == [
        "configuration.yaml:2",
        "configuration.yaml:3",
        "configuration.yaml:5",
        "configuration.yaml:6",
    ]


def test_a_problem_in_an_included_file_names_that_file(tmp_path: Path) -> None:
    write(tmp_path, "redundancy: 9\n", "parts/gateway.yaml")
    (found,) = problems(tmp_path, "hub:\n  name: a\ngateway: !include parts/gateway.yaml\n")
    assert found.startswith("parts/gateway.yaml:1: gateway → redundancy: ")


def test_secrets_come_from_their_file(tmp_path: Path) -> None:
    write(tmp_path, "port: 8471\n", "secrets.yaml")
    write(tmp_path, "gateway:\napi:\n  port: !secret port\n")
    _, planned = bootstrap.check(tmp_path)
    (api,) = [each for each in planned.components if each.manifest.domain == "api"]
    assert api.config.port == 8471  # type: ignore[attr-defined]


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"does not exist; run: swarm-hub init -c {tmp_path}"):
        bootstrap.check(tmp_path)


def test_a_role_brings_what_it_depends_on_with_defaults(tmp_path: Path) -> None:
    write(tmp_path, "worker:\n")
    _, planned = bootstrap.check(tmp_path)
    order = [each.manifest.domain for each in planned.components]
    assert {"mesh", "signer", "sandbox", "telemetry"} <= set(order)
    assert "gateway" not in order
    assert order.index("mesh") < order.index("signer") < order.index("worker")


def test_check_tells_problems_as_json(tmp_path: Path) -> None:
    write(tmp_path, "gateway:\n  redundancy: 8\n")
    done = CliRunner().invoke(main, ["check", "-c", str(tmp_path), "--json"], standalone_mode=False)
    assert done.return_value == 1
    assert json.loads(done.stdout) == {
        "valid": False,
        "problems": [
            {
                "file": "configuration.yaml",
                "line": 2,
                "path": "gateway → redundancy",
                "message": "expected a whole number from 1 to 7 or adaptive, got 8",
            }
        ],
    }
    write(tmp_path, "gateway:\n")
    done = CliRunner().invoke(main, ["check", "-c", str(tmp_path), "--json"], standalone_mode=False)
    assert done.return_value == 0
    assert json.loads(done.stdout)["valid"] is True
    assert "gateway" in json.loads(done.stdout)["components"]


async def test_a_custom_component_runs_and_offers_its_service(tmp_path: Path, swarm: Swarm) -> None:
    custom(tmp_path / "gateway", "mine", COMPONENT)
    gateway = await swarm.gateway(extra="mine: {word: salut}\n")
    assert {key.name: found for key, found in gateway.hub.services._services.items()}[
        "mine"
    ] == "salut"


def test_a_custom_component_overrides_a_built_in_one_if_it_says_so(tmp_path: Path) -> None:
    custom(tmp_path, "sla", COMPONENT, name="My own deadlines", overrides=True)
    write(tmp_path, "gateway:\nsla: {word: ours}\n")
    _, planned = bootstrap.check(tmp_path)
    (sla,) = [each for each in planned.components if each.manifest.domain == "sla"]
    assert (sla.manifest.custom, sla.manifest.name) == (True, "My own deadlines")
    assert sla.config == {"word": "ours"}


@pytest.mark.parametrize("text", ["gateway:\nsla: {word: ours}\n", "gateway:\n"])
def test_one_that_does_not_say_so_is_refused_and_both_are_named(tmp_path: Path, text: str) -> None:
    custom(tmp_path, "sla", COMPONENT)
    assert "\n".join(problems(tmp_path, text)).endswith(
        "custom_components/sla has the name of a component that is built in, "
        'swarm_hub/components/sla; give it another one, or say "overrides": true in its '
        "manifest.json to have it in that one's place"
    )


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ({"version": None}, "a custom component needs a version"),
        ({"domain": "other"}, "domain must be the folder's name, mine"),
        ({"name": None}, "required key not provided"),
        ({"dependencies": "mesh"}, "expected a list"),
        ({"surprise": 1}, "extra keys not allowed"),
        ({"dependencies": ["nothing_of_that_name"]}, "there is no such component"),
    ],
)
def test_a_manifest_that_can_not_be_used_is_named_at_the_section(
    tmp_path: Path, manifest: dict[str, object], said: str
) -> None:
    custom(tmp_path, "mine", COMPONENT, **manifest)
    (found,) = problems(tmp_path, "gateway:\nmine:\n")
    assert found.startswith("configuration.yaml:2: mine: ")
    assert said in found


def test_a_manifest_that_is_no_json_is_named(tmp_path: Path) -> None:
    write(tmp_path / "custom_components/mine", "{", "manifest.json")
    (found,) = problems(tmp_path, "gateway:\nmine:\n")
    assert found.startswith("configuration.yaml:2: mine: ")
    assert "manifest.json" in found


def test_a_circle_of_dependencies_is_told(tmp_path: Path) -> None:
    custom(tmp_path, "one", COMPONENT, dependencies=["two"])
    custom(tmp_path, "two", COMPONENT, dependencies=["one"])
    (found,) = problems(tmp_path, "gateway:\none:\n")
    assert "depend on each other in a circle: one → two" in found


def test_a_custom_component_that_other_components_need_and_that_is_broken_is_told(
    tmp_path: Path,
) -> None:
    custom(tmp_path, "sla", COMPONENT, version=None, overrides=True)
    found = problems(tmp_path, "gateway:\n")
    assert any("a custom component needs a version" in each for each in found)


def test_manifests_are_read_before_any_code_runs(tmp_path: Path) -> None:
    custom(tmp_path, "mine", "raise RuntimeError('imported')\n", dependencies=["mesh"])
    index = ComponentIndex(tmp_path)
    assert "mine" in index.domains()
    assert [manifest.domain for manifest in index.order({"mine"})] == ["mesh", "mine"]
    manifest = index.manifest("mine")
    assert manifest is not None
    with pytest.raises(SetupError, match="its code can't be imported: RuntimeError: imported"):
        manifest.import_component()
    (found,) = problems(tmp_path, "gateway:\nmine:\n")
    assert found == (
        "custom_components/mine/__init__.py:1: mine: its code can't be imported: RuntimeError: "
        "imported"
    )


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("\nimport nothing_of_that_name\n", "2: mine: its code can't be imported: "
         "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("x = 1\nif x\n", "2: mine: its code can't be imported: SyntaxError: expected ':'"),
        ("raise SystemExit('bye')\n", "1: mine: its code can't be imported: SystemExit: bye"),
    ],
)  # fmt: skip
def test_a_component_that_can_not_be_imported_is_told_at_its_own_line(
    tmp_path: Path, code: str, said: str
) -> None:
    custom(tmp_path, "mine", code)
    (found,) = problems(tmp_path, "gateway:\nmine:\n")
    assert found == f"custom_components/mine/__init__.py:{said}"


def test_a_fault_that_two_components_share_is_told_once(tmp_path: Path) -> None:
    custom(tmp_path, "base", "oops\n")
    base = tmp_path / "custom_components" / "base" / "__init__.py"
    custom(
        tmp_path,
        "upon",
        "from importlib import util\n"
        f"spec = util.spec_from_file_location('base', {str(base)!r})\n"
        "spec.loader.exec_module(util.module_from_spec(spec))\n",
        dependencies=["base"],
    )
    assert problems(tmp_path, "gateway:\nbase:\nupon:\n") == [
        "custom_components/base/__init__.py:1: base: its code can't be imported: NameError: "
        "name 'oops' is not defined"
    ]


def test_a_component_without_a_part_of_its_contract_is_told(tmp_path: Path) -> None:
    custom(tmp_path, "mine", "async_setup = None\n")
    (found,) = problems(tmp_path, "gateway:\nmine:\n")
    assert found.startswith("configuration.yaml:2: mine: ")
    assert found.endswith("custom_components/mine/__init__.py: has no CONFIG_SCHEMA")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise RuntimeError('out of luck')", "out of luck"),
        ("return False", "refused to be set up"),
    ],
)
async def test_a_component_that_fails_is_told_as_an_event_and_the_hub_lives_on(
    tmp_path: Path, swarm: Swarm, body: str, said: str
) -> None:
    failing = COMPONENT.partition("    hub.services")[0] + f"    {body}\n"
    custom(tmp_path / "gateway", "mine", failing)
    custom(tmp_path / "gateway", "upon_mine", COMPONENT, dependencies=["mine"])
    gateway = await swarm.gateway(extra="mine:\nupon_mine:\n")
    assert (await call(gateway, "GET", "/health"))[0] == 200
    told = {
        event.data["component"]: event.data["message"]
        for event in await gateway.hub.store.read(events.since, 0, 10)
        if event.event_type == "component_failed"
    }
    assert said in told["mine"]
    assert told["upon_mine"] == "mine is not running"


async def test_a_component_that_the_role_needs_ends_the_hub(tmp_path: Path, swarm: Swarm) -> None:
    failing = COMPONENT.partition("    hub.services")[0] + "    return False\n"
    custom(tmp_path / "gateway", "sla", failing, overrides=True)
    with pytest.raises(SetupError, match="sla refused to be set up"):
        await swarm.gateway()


def test_a_component_comes_along_with_others_unless_it_is_switched_off(tmp_path: Path) -> None:
    custom(tmp_path, "mine", COMPONENT, default_with=["sla", "gateway"])
    for text, loaded in (
        ("gateway:\n", True), ("gateway:\nmine: false\n", False), ("worker:\n", False),
        ("worker:\nmine:\n", True),
    ):  # fmt: skip
        write(tmp_path, text)
        _, planned = bootstrap.check(tmp_path)
        domains = [each.manifest.domain for each in planned.components]
        assert ("mine" in domains) == loaded, text
    custom(tmp_path, "mine", COMPONENT, default_with=["gateway"], dependencies=["nowhere"])
    (found,) = problems(tmp_path, "gateway:\n")
    assert found == "configuration.yaml: mine: nowhere: there is no such component"
