"""What is wrong with a list of automations is said by `check`, with its line and the way out."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
import voluptuous as vol
from hypothesis import given
from hypothesis import strategies as st

from swarm_hub import bootstrap
from swarm_hub.components.automation import CONFIG_SCHEMA
from swarm_hub.components.automation.hosts import is_allowed, may_connect
from swarm_hub.exceptions import ConfigError

ALLOW = "  - allow: {hosts: [hooks.example.org], commands: {chime: [/bin/true]}}\n"


def problems(folder: Path, entries: str) -> list[str]:
    (folder / "configuration.yaml").write_text(f"gateway:\nautomation:\n{ALLOW}{entries}")
    try:
        bootstrap.check(folder)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def entry(trigger: str = "{event: node_up}", action: str = "{notify: x}", more: str = "") -> str:
    return f"  - alias: A\n    trigger: {trigger}\n    action: {action}\n{more}"


@pytest.mark.parametrize(
    "text",
    [
        entry(),
        entry("[{event: node_up}, {cron: 0 3 * * *, time_zone: Europe/Berlin}]"),
        entry('{time_pattern: {minutes: "/5"}}'),
        entry("{time_pattern: {hours: 3, minutes: 30}}"),
        entry("{absence: job_completed, for: 2h}"),
        entry("{threshold: disk_free, below: 1GiB, for: 5m}"),
        entry(action="{webhook: 'https://hooks.example.org/{{ trigger.id }}'}"),
        entry(action="[{command: chime}, {command: {name: chime, input: '{{ 1 }}'}}]"),
        entry(action="{submit: {module: a/b.wasm, dataset: result, labels: {a: '{{ job.id }}'}}}"),
        entry(action="{submit: {script: a.py, dataset: {range: [0, 9]}, runtime: python}}"),
        entry(action="[{cancel: }, {drain: }, {undrain: kitchen}, {pause: 2h}, {resume: }]"),
        entry(more='    condition: {after: "22:00", weekdays: [mon, sun]}\n'),
        entry(more="    condition: [{threshold: jobs_running, above: 1}]\n    max_per_hour: 5\n"),
    ],
)
def test_a_list_that_is_right_has_no_problem(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text) == []


@pytest.mark.parametrize(
    ("text", "line", "path", "said"),
    [
        (entry("{event: job_complete}"), 5, "1 → trigger → event", "did you mean job_completed?"),
        (
            entry("{event: node_up, lables: {a: b}}"), 5, "1 → trigger → lables",
            "did you mean labels?",
        ),
        (entry("[{event: node_up}, {evnt: x}]"), 5, "1 → trigger → 1", "did you mean event?"),
        (entry("{cron: 61 * * * *}"), 5, "1 → trigger → cron", "minute: expected 0 to 59"),
        (entry("{time_pattern: {minute: 5}}"), 5, "1 → trigger → time_pattern", "expected hours"),
        (entry("{cron: 0 3 * * *, time_zone: Mars}"), 5, "time_zone", "no time zone 'Mars'"),
        (entry("{absence: node_up}"), 5, "1 → trigger", "`for` is required"),
        (entry("{threshold: nodes}"), 5, "1 → trigger → threshold", "did you mean nodes_up?"),
        (entry("{threshold: nodes_up}"), 5, "1 → trigger", "above, below or both"),
        (entry(action="{webhok: x}"), 6, "1 → action → webhok", "did you mean webhook?"),
        (
            entry(action="{webhook: 'https://other.example.org/x'}"), 6,
            "1 → action → webhook → url", "other.example.org:443 is not allowed",
        ),
        (
            entry(action="{webhook: 'https://{{ job.name }}/x'}"), 6,
            "1 → action → webhook → url", "the host has to be written out",
        ),
        (entry(action="{webhook: 'ftp://hooks.example.org'}"), 6, "url", "expected a URL"),
        (
            entry(action="{webhook: 'https://a:b@hooks.example.org'}"), 6, "url", "password in it",
        ),
        (
            entry(action="{webhook: {url: 'https://hooks.example.org', headers: {host: x}}}"), 6,
            "webhook → headers → host", "can't be set here",
        ),
        (
            entry(action="{webhook: {url: 'https://hooks.example.org', body: '{{ a'}}"), 6,
            "1 → action → webhook → body", "is no template: ",
        ),
        (entry(action="{notify: '{{ a | nope }}'}"), 6, "notify → message", "no filter 'nope'"),
        (entry(action="{notify: '{% include \"x\" %}'}"), 6, "notify", "can't load another one"),
        (entry(action="{command: chim}"), 6, "1 → action → command", "did you mean chime?"),
        (entry(action="{command: reboot}"), 6, "action → command", "'reboot' is not allowed; add"),
        (entry(action="{submit: {dataset: result}}"), 6, "submit", "one of module and script"),
        (entry(action="{submit: {module: a.wasm}}"), 6, "submit → dataset", "key is required"),
        (
            entry(action="{submit: {module: ../a.wasm, dataset: result}}"), 6, "submit → module",
            "below the configuration directory",
        ),
        (
            entry(action="{submit: {module: a.wasm, dataset: result, redcue: sum}}"), 6,
            "1 → action → submit → redcue", "did you mean reduce?",
        ),
        (
            entry(action="{submit: {module: a.wasm, dataset: {range: 5}}}"), 6,
            "submit → dataset → range", "expected two whole numbers",
        ),
        (entry(more='    condition: {after: "25:00"}\n'), 7, "condition → after", "a time in quo"),
        (entry(more="    condition: {threshold: nodes_up}\n"), 7, "1 → condition", "above, below"),
        (entry(more="    max_per_hour: 0\n"), 7, "1 → max_per_hour", "from 1 to 10000"),
        (entry(more="    id: A b\n"), 7, "1 → id", "such as reduce_maps"),
        (entry(more="    actoin: []\n"), 7, "1 → actoin", "did you mean action?"),
        ("  - {alias: A, action: {notify: x}}\n", 4, "1 → trigger", "this key is required"),
        (entry() + entry(), 7, "2", "another automation a;"),
        ("  - allow: {hosts: ['http://x']}\n", 4, "1 → allow → hosts → 0", "expected a host"),
        ("  - allow: {commands: {a: [rm]}}\n", 4, "allow → commands → a", "whole path"),
        ("  - {alias: A, trigger: , action: {notify: x}}\n", 4, "1 → trigger", "expected a trig"),
    ],
)  # fmt: skip
def test_each_mistake_is_told_with_its_line_and_its_path(
    tmp_path: Path, text: str, line: int, path: str, said: str
) -> None:
    found = problems(tmp_path, text)
    assert len(found) == 1, found
    place, _, message = found[0].partition(" automation → ")
    assert place == f"configuration.yaml:{line}:", found
    assert path in message
    assert said in message


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = entry("{event: x}", "{notify: ''}") + entry("{cron: x}", more="    id: b\n")
    assert len(problems(tmp_path, text)) == 3
    assert problems(tmp_path, "  - 5\n")
    (tmp_path / "configuration.yaml").write_text("gateway:\nautomation: {a: b}\n")
    with pytest.raises(ConfigError, match="expected a list"):
        bootstrap.check(tmp_path)


def test_lists_of_packages_are_joined_and_allow_each_other(tmp_path: Path) -> None:
    (tmp_path / "configuration.yaml").write_text(
        "hub:\n  packages:\n    night:\n      automation:\n"
        "        - allow: {hosts: [other.example.org]}\n        - alias: B\n"
        "          trigger: {event: nope}\n          action: {notify: x}\n"
        "gateway:\nautomation:\n" + entry(action="{webhook: 'https://other.example.org'}")
    )
    with pytest.raises(ConfigError) as caught:
        bootstrap.check(tmp_path)
    assert [problem.line for problem in caught.value.problems] == [7]


@pytest.mark.parametrize(
    ("entries", "host", "port", "allowed"),
    [
        (["a.example"], "a.example", 443, True),
        (["a.example"], "b.a.example", 443, False),
        (["*.example"], "b.a.example", 443, True),
        (["*.example"], "example", 443, False),
        (["a.example:8443"], "a.example", 443, False),
        (["a.example:8443"], "a.example", 8443, True),
        (["10.0.0.0/8"], "10.1.2.3", 80, True),
        (["10.0.0.0/8"], "11.1.2.3", 80, False),
        (["192.168.1.7:80"], "192.168.1.7", 80, True),
        (["192.168.1.7:80"], "192.168.1.7", 81, False),
        (["[fd00::1]:80"], "fd00::1", 80, True),
        (["fd00::/8"], "fd00::1", 80, True),
        ([], "a.example", 80, False),
    ],
)
def test_a_host_is_allowed_by_name_address_or_network(
    entries: list[str], host: str, port: int, allowed: bool
) -> None:
    assert is_allowed(entries, host, port) is allowed


@pytest.mark.parametrize(
    ("address", "entries", "may"),
    [
        ("93.184.216.34", [], True),
        ("127.0.0.1", [], False),
        ("10.0.0.7", ["nas"], False),
        ("10.0.0.7", ["10.0.0.7"], True),
        ("169.254.169.254", [], False),
        ("::1", [], False),
        ("::ffff:127.0.0.1", [], False),
        ("::ffff:127.0.0.1", ["127.0.0.1"], True),
        ("0.0.0.0", [], False),
        ("224.0.0.1", [], False),
        ("100.64.0.1", [], False),
    ],
)
def test_an_address_that_is_not_public_has_to_be_named_itself(
    address: str, entries: list[str], may: bool
) -> None:
    from ipaddress import ip_address

    assert may_connect(entries, ip_address(address), 80) is may


words = st.sampled_from(
    ["alias", "id", "trigger", "condition", "action", "allow", "hosts", "commands", "event",
     "absence", "cron", "time_pattern", "threshold", "for", "labels", "where", "above", "after",
     "weekdays", "time_zone", "webhook", "url", "headers", "body", "command", "name", "input",
     "submit", "module", "dataset", "result", "range", "file", "cancel", "notify", "pause",
     "job_completed", "nodes_up", "a.wasm", "* * * * *", "https://a.example/{{ x }}", "{{ x", "5m"]
)  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)
entries = st.fixed_dictionaries(
    {}, optional={"alias": values, "id": values, "trigger": values, "condition": values,
                  "action": values, "max_per_hour": values, "allow": values},
)  # fmt: skip


@given(st.lists(entries, max_size=3) | values)
def test_whatever_is_written_is_taken_or_refused(value: Any) -> None:
    with contextlib.suppress(vol.Invalid):
        assert CONFIG_SCHEMA(value).automations is not None
