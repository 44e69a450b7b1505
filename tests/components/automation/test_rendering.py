"""Templates are rendered apart: a hostile one is refused or killed, and the next one works."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest

from swarm_hub.components.automation.rendering import Renderer, TemplateError

pytestmark = [pytest.mark.process, pytest.mark.hostile]


@pytest.fixture
async def renderer() -> AsyncIterator[Renderer]:
    made = Renderer()
    yield made
    await made.close()


async def test_texts_are_rendered_wherever_they_are_in_an_action(renderer: Renderer) -> None:
    content = {"a": "{{ job.id }}!", "b": ["{{ 1 + 1 }}", 5, None], "c": {"d": "as it is"}}
    found = await renderer.render(content, {"job": {"id": "J"}})
    assert found == {"a": "J!", "b": ["2", 5, None], "c": {"d": "as it is"}}
    assert content["a"] == "{{ job.id }}!"


async def test_without_a_template_no_process_is_started(renderer: Renderer) -> None:
    assert await renderer.render({"a": "text"}, {}) == {"a": "text"}
    assert renderer.pid is None


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "1 s"),
        ("{{ 10 ** (10 ** 8) }}", "1 s"),
        ("{{ 'a' * (10 ** 9) }}", "64 MiB"),
        ("{{ '%1000000000s' | format(1) }}", "64 MiB"),
        ("{{ [0] * 100000000 }}", "64 MiB"),
        ("{{ 'a' * 100000 }}", "more than 65536 characters"),
        ("{{ range(10 ** 9) | list }}", "OverflowError"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "SecurityError"),
        ("{{ '' | attr('__class__') }}", "SecurityError|Undefined"),
        ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", "SecurityError"),
        ("{{ '{0.__class__}'.format(1) }}", "SecurityError"),
        ("{{ job.clear() }}", "SecurityError"),
        ("{{ missing.name }}", "UndefinedError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "nested too deeply|Syntax|Recursion|ended"),
    ],
)
async def test_a_hostile_template_ends_itself_alone(
    renderer: Renderer, template: str, said: str
) -> None:
    with pytest.raises(TemplateError, match=said):
        await renderer.render(template, {"job": {"id": "J"}})
    assert await renderer.render("{{ job.id }}", {"job": {"id": "J"}}) == "J"


async def test_the_process_has_no_files_and_no_environment(renderer: Renderer) -> None:
    await renderer.render("{{ 1 }}", {})
    assert renderer.pid is not None
    child = psutil.Process(renderer.pid)
    assert child.environ() == {}
    assert child.open_files() == []
    assert child.cwd() == "/"


async def test_one_that_dies_is_started_again(renderer: Renderer) -> None:
    await renderer.render("{{ 1 }}", {})
    first = renderer.pid
    assert first is not None
    psutil.Process(first).kill()
    with pytest.raises(TemplateError, match="ended"):
        await renderer.render("{{ 2 }}", {})
    assert await renderer.render("{{ 3 }}", {}) == "3"
    assert renderer.pid not in (None, first)


async def test_a_request_that_is_given_up_leaves_no_answer_behind(renderer: Renderer) -> None:
    await renderer.render("{{ 1 }}", {})
    asked = asyncio.ensure_future(renderer.render("{{ 10 ** (10 ** 8) }}", {}))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    results: list[Any] = [await renderer.render(f"{{{{ {n} }}}}", {}) for n in range(3)]
    assert results == ["0", "1", "2"]
