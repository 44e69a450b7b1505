"""`swarm-hub automation` for people: a table, what to do next, and a trace that can be read."""

import asyncio

from click.testing import CliRunner

from swarm_hub.cli import main
from swarm_hub.const import ADMIN_TOKEN_FILE, STORAGE_DIR
from swarm_hub.exceptions import HubError
from tests.components.automation.asking import ended, notify, section
from tests.conftest import RunningHub, Swarm


async def said(hub: RunningHub, *arguments: str) -> tuple[int, str]:
    """Return the exit code of a command, and all that it prints."""
    whole = ["automation", *arguments, "-c", str(hub.folder)]
    done = await asyncio.to_thread(CliRunner().invoke, main, whole, standalone_mode=False)
    if isinstance(done.exception, HubError):
        return 1, str(done.exception)
    assert done.exception is None, done.exception
    return done.return_value or 0, done.output


async def started(swarm: Swarm, extra: str) -> RunningHub:
    hub = await swarm.gateway(extra=extra)
    (hub.folder / STORAGE_DIR / ADMIN_TOKEN_FILE).write_text(hub.token)
    return hub


async def test_an_automation_is_listed_triggered_and_traced(swarm: Swarm) -> None:
    bad = {**notify({"event": "node_up"}, "Bad"), "action": {"notify": "{{ job.id }}"}}
    hub = await started(swarm, section(notify({"event": "node_drained"}), bad))
    code, text = await said(hub, "list")
    assert code == 0
    assert text.splitlines()[1].split() == ["tell", "Tell", "yes", "notify", "0", "never"]
    assert "not triggered yet" in (await said(hub, "trace", "tell"))[1]
    code, text = await said(hub, "trigger", "tell")
    assert code == 0
    assert text.splitlines()[0].startswith("tell:m")
    assert "swarm-hub automation trace tell" in text
    await ended(hub, "tell")
    code, text = await said(hub, "trace", "tell")
    assert "done, manual" in text
    assert "  notify done manual" in text
    assert "tell: manual" in (await said(hub, "list"))[1]
    code, text = await said(hub, "trigger", "bad")
    assert code == 1
    assert "'job' is undefined" in text
    assert "Bad is disabled" in (await said(hub, "disable", "bad"))[1]
    assert "Bad is enabled" in (await said(hub, "enable", "bad"))[1]
    assert "there is no automation nope" in (await said(hub, "trace", "nope"))[1]


async def test_a_hub_without_any_says_where_they_are_written(swarm: Swarm) -> None:
    hub = await started(swarm, "automation: []\n")
    assert "docs/components/automation.md" in (await said(hub, "list"))[1]


async def test_a_hub_without_the_section_says_so(swarm: Swarm) -> None:
    hub = await started(swarm, "")
    code, text = await said(hub, "list")
    assert code == 1
    assert "automation" in text
