"""A reduce that the owner brings, as docs/components/gateway.md shows it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from swarm_hub.cli import main
from swarm_hub.components.gateway import register_reducer
from tests.conftest import Swarm
from tests.helpers.rest import call, finished, submit
from tests.helpers.snippets import code_of

PRODUCT = code_of("docs/components/gateway.md", "python")


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reducers are those of the whole process."""
    monkeypatch.setattr("swarm_hub.components.gateway.submission.reducers._own", set())
    monkeypatch.setattr("swarm_hub.components.gateway.results.reduce._own", {})


def bring(folder: Path, code: str) -> None:
    home = folder / "custom_components" / "products"
    home.mkdir(parents=True)
    manifest = {
        "domain": "products", "name": "Products", "documentation": "README.md",
        "version": "1.0.0", "dependencies": ["gateway"],
    }  # fmt: skip
    (home / "manifest.json").write_text(json.dumps(manifest))
    (home / "__init__.py").write_text(code)


@pytest.mark.parametrize(
    ("code", "field", "said"),
    [
        (PRODUCT, "result", 5**4),
        (PRODUCT.replace("int(", "float(b'x' + "), "failures", "gave no number"),
        (PRODUCT.replace("self.product *= int(", "self.missing = self.nothing("), "failures",
         "product failed: AttributeError: "),
    ],
)  # fmt: skip
async def test_a_job_is_folded_by_the_one_of_the_page(
    swarm: Swarm, tmp_path: Path, modules: dict[str, bytes], code: str, field: str, said: object
) -> None:
    bring(tmp_path / "gateway", code)
    gateway = await swarm.gateway(extra="products:\n")
    await swarm.worker("worker")
    spec = {"reduce": "product", "shard_size": 5}
    status, body = await submit(gateway, modules["count"], b"0:20", spec)
    assert status == 202, body
    job = await finished(gateway, body["job_id"])
    assert (job[field] == said) if field == "result" else (str(said) in json.dumps(job[field])), job


async def test_the_description_of_the_api_names_it(swarm: Swarm, tmp_path: Path) -> None:
    bring(tmp_path / "gateway", PRODUCT)
    gateway = await swarm.gateway(extra="products:\n")
    _, described = await call(gateway, "GET", "/openapi.json")
    assert '"product"' in json.dumps(described)


async def test_one_that_there_is_not_is_refused_with_those_that_there_are(
    swarm: Swarm, modules: dict[str, bytes]
) -> None:
    gateway = await swarm.gateway()
    spec = {"reduce": "prodct"}
    status, body = await submit(gateway, modules["count"], b"0:20", spec)
    assert status == 422
    assert "expected one of sum, min, max" in json.dumps(body)


def test_the_command_line_takes_any_name() -> None:
    done = CliRunner().invoke(main, ["submit", "--reduce", "product", "nowhere.wasm"])
    assert "is not one of" not in done.output


@pytest.mark.parametrize("name", ["sum", "Product", "", "a" * 50])
def test_a_name_that_it_can_not_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"built in|no name for a reduce"):
        register_reducer(name, list)  # type: ignore[arg-type]
