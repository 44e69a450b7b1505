"""`configuration.yaml.example` is valid, complete, and tells the true defaults."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import voluptuous as vol

from swarm_hub import bootstrap, config
from swarm_hub.config import Configuration, read_configuration
from swarm_hub.helpers import config_validation as cv
from swarm_hub.helpers.platforms import Platform
from swarm_hub.loader import ComponentIndex
from swarm_hub.util.process_log import LoggerConfig
from swarm_hub.util.yaml_loader import load_yaml
from tests.helpers.sections import component, has_platforms, keys_of, platforms

_EXAMPLE = Path(__file__).parents[1] / "configuration.yaml.example"
# A platform that is not the default one stands behind a `#`, as a section of one line.
_OTHER_PLATFORM = re.compile(r"^# (\w+: \{platform: .*\})$", re.MULTILINE)
_BACKUP = re.compile(r"^  # (backup: \{.*\})$", re.MULTILINE)
_DOMAINS = ComponentIndex(Path("nowhere")).domains()


def all_schemas() -> Iterator[tuple[str, dict[Any, Any]]]:
    """Yield (name, keys) of every section and platform there is."""
    for domain in _DOMAINS:
        if has_platforms(domain):
            for name, module in platforms(domain).items():
                yield f"{domain} {name}", module.PLATFORM_SCHEMA
        else:
            yield domain, component(domain).CONFIG_SCHEMA.schema.schema
    yield "hub", config.hub_schema("hub").schema.schema  # type: ignore[attr-defined]
    for schema in (*config.CORE_SCHEMAS.values(), config._BACKUP_SCHEMA):
        yield "core", schema.schema.schema  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "keys"), [*all_schemas()])
def test_every_key_declares_whether_it_can_be_reloaded(name: str, keys: dict[Any, Any]) -> None:
    for key in keys:
        assert isinstance(key, cv.Key), f"{name}: {key}"
        assert isinstance(key.reloadable, bool)


def checked(schema: dict[Any, Any], keys: dict[str, Any]) -> dict[str, Any]:
    validated: dict[str, Any] = cv.section(schema, dict)(keys)
    return validated


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    shutil.copy(_EXAMPLE, tmp_path / "configuration.yaml")
    return tmp_path


@pytest.fixture
def example(directory: Path) -> Configuration:
    return read_configuration(directory, "hub")


def test_the_example_is_valid_and_loads_every_component(directory: Path) -> None:
    _, planned = bootstrap.check(directory)
    assert sorted(each.manifest.domain for each in planned.components) == _DOMAINS


def test_it_names_the_sections_of_the_core(example: Configuration) -> None:
    assert set(example.sections["hub"]) == keys_of(config.hub_schema("hub").schema.schema)  # type: ignore[attr-defined]
    shown = {*example.sections["storage"], "backup"}
    assert shown == keys_of(config.STORAGE_SCHEMA.schema.schema)  # type: ignore[attr-defined]
    shown = set(example.sections["logger"])
    assert shown == keys_of(config.LOGGER_SCHEMA.schema.schema)  # type: ignore[attr-defined]
    assert example.logger == LoggerConfig()


def test_the_backups_that_are_commented_out_are_shown_with_their_defaults(tmp_path: Path) -> None:
    (backup,) = _BACKUP.findall(_EXAMPLE.read_text("utf-8"))
    found = []
    for shown in (backup, "backup:"):
        (tmp_path / "configuration.yaml").write_text(f"storage:\n  {shown}\n")
        configuration = read_configuration(tmp_path, "hub")
        assert configuration.problems == ()
        found.append(configuration.storage.backup)
    assert found[0] == found[1] is not None


def test_the_store_is_where_it_is_without_the_section(
    example: Configuration, tmp_path: Path
) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "configuration.yaml").write_text("worker:\n")
    assert asdict(example.storage) == asdict(read_configuration(folder, "hub").storage)


@pytest.mark.parametrize("domain", [each for each in _DOMAINS if not has_platforms(each)])
def test_a_component_has_each_of_its_keys_with_its_default(
    domain: str, example: Configuration
) -> None:
    schema = component(domain).CONFIG_SCHEMA
    assert set(example.sections[domain] or ()) == keys_of(schema.schema.schema)
    assert schema(example.sections[domain]) == schema(None)


@pytest.mark.parametrize("domain", [each for each in _DOMAINS if has_platforms(each)])
def test_every_platform_is_shown_with_each_of_its_keys_and_defaults(
    domain: str, example: Configuration, tmp_path: Path
) -> None:
    (tmp_path / "others.yaml").write_text(
        "\n".join(f"- {line}" for line in _OTHER_PLATFORM.findall(_EXAMPLE.read_text("utf-8")))
    )
    others = [
        section[domain]
        for section in load_yaml(tmp_path / "others.yaml", tmp_path)
        if domain in section
    ]
    shown = {section["platform"]: section for section in (example.sections[domain], *others)}
    known = platforms(domain)
    assert shown.keys() == known.keys()
    of_all = {"platform", *keys_of(component(domain).CONFIG_SCHEMA.keys)}
    for name, section in shown.items():
        schema = known[name].PLATFORM_SCHEMA
        given = {key: value for key, value in section.items() if key not in of_all}
        assert given.keys() == keys_of(schema)
        assert checked(schema, given) == checked(schema, {})


@pytest.mark.parametrize("domain", [each for each in _DOMAINS if has_platforms(each)])
def test_the_platform_that_is_not_commented_out_is_the_default(
    domain: str, example: Configuration
) -> None:
    default: Platform[Any] = component(domain).CONFIG_SCHEMA(None)
    assert example.sections[domain]["platform"] == default.name


def test_a_value_that_is_no_default_would_be_noticed() -> None:
    schema = component("sla").CONFIG_SCHEMA
    with pytest.raises(vol.Invalid):
        schema({"platform": "expected", "deadline": 15})
