"""The recipes of docs/architecture.md, "Where to add things", followed to the letter in a copy.

Those that need no change to what is there have tests of their own, which the page names.
"""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from swarm_hub.storage import Store, schema
from swarm_hub.util.clock import Clock
from tests.helpers.snippets import code_of
from tests.tree import ROOT, Tree

pytestmark = pytest.mark.slow

ABI_F64 = code_of("docs/components/sandbox.md", "python")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return Tree(tmp_path_factory.mktemp("recipes") / "tree")


def test_a_key_of_the_configuration(tree: Tree) -> None:
    component = "swarm_hub/components/telemetry/__init__.py"
    tree.replace(component, "    interval_s: float\n", "    interval_s: float\n    quiet: bool\n")
    tree.replace(
        component,
        '{cv.Key("interval"',
        '{cv.Key("quiet", default=False, reloadable=False): cv.boolean, cv.Key("interval"',
    )
    tree.replace(
        "swarm_hub/components/telemetry/keys.yaml",
        "  interval:",
        "  quiet: {description: whether it tells nobody}\n  interval:",
    )
    tree.run("python", "-m", "script.docs_tools", "pages")
    assert "\n| `quiet` |" in (tree.folder / "docs/components/telemetry.md").read_text()
    tree.test("tests/test_docs.py", "tests/test_example.py", "-k", "telemetry or example or key")


def test_an_abi(tree: Tree) -> None:
    tree.write("swarm_hub/components/sandbox/child/abi_f64.py", ABI_F64)
    test = tree.write(
        "tests/components/sandbox/test_f64.py",
        """
        from swarm_hub.components.sandbox import SANDBOX
        from tests.helpers.modules import HALVES
        from tests.helpers.rest import finished, submit


        async def test_a_job_is_called_by_it(swarm):
            gateway = await swarm.gateway()
            await swarm.worker("worker")
            wasm = await gateway.hub.services[SANDBOX].sandbox.assemble(HALVES)
            spec = {"reduce": "sum", "shard_size": 1, "split": "lines"}
            _, body = await submit(gateway, wasm, b"1\\n2\\n5.5\\n", spec)
            assert (await finished(gateway, body["job_id"]))["result"] == 4.25
        """,
    )
    tree.test(test)


def test_a_reducer(tree: Tree) -> None:
    reduce = "swarm_hub/components/gateway/results/reduce.py"
    line = '\n    "sum": _Reducer(lambda: _Numbers(total)),\n'
    tree.replace(reduce, line, f'{line}    "product": _Reducer(lambda: _Numbers(math.prod)),\n')
    tree.replace("swarm_hub/models/job.py", '("sum", "min"', '("product", "sum", "min"')
    test = tree.write(
        "tests/components/gateway/results/test_product.py",
        """
        from click.testing import CliRunner

        from swarm_hub.cli import main
        from tests.helpers.rest import finished, submit


        async def test_a_job_is_folded_by_it(swarm, modules):
            gateway = await swarm.gateway()
            await swarm.worker("worker")
            spec = {"reduce": "product", "shard_size": 5}
            _, body = await submit(gateway, modules["count"], b"0:20", spec)
            assert (await finished(gateway, body["job_id"]))["result"] == 5**4


        def test_the_command_line_knows_it():
            assert "product" in CliRunner().invoke(main, ["submit", "--help"]).output
        """,
    )
    tree.test(test)


async def test_a_column_and_a_table(tree: Tree, tmp_path: Path) -> None:
    number = f"{int(schema.HEAD) + 1:04}"
    tables = tree.folder / "swarm_hub/storage/schema.py"
    text = tables.read_text()
    text = text.replace(f'"{schema.HEAD}",\n)', f'"{schema.HEAD}", "{number}",\n)')
    # A new column is the last one, as that is where an upgrade puts it.
    text = re.sub(r"(?s)(\nnodes: Final = .*?)\n\)\n", r'\1\n    Column("shelf", Text),\n)\n', text)
    text += '\nshelves: Final = _table("shelves", Column("name", Text, primary_key=True))\n'
    tables.write_text(text)
    tree.write(
        f"swarm_hub/storage/migrations/versions/{number}_shelves.py",
        f"""\
        import sqlalchemy as sa
        from alembic import op

        revision = "{number}"
        down_revision = "{schema.HEAD}"


        def upgrade():
            op.add_column("nodes", sa.Column("shelf", sa.Text()))
            op.create_table(
                "shelves", sa.Column("name", sa.Text(), primary_key=True), sqlite_strict=True
            )
        """,
    )
    record = "    owner: str | None = None\n"
    tree.replace("swarm_hub/models/node.py", record, f"{record}    shelf: str | None = None\n")
    copy = await schema_before(tmp_path)
    (tree.folder / f"tests/storage/migrations/schemas/{schema.HEAD}.sql").write_text(copy)
    tests = f"copy_of_every or {schema.HEAD} or met_before"
    tree.test("tests/storage/migrations/test_migrations.py", "-k", tests)


async def schema_before(folder: Path) -> str:
    """Return today's schema as SQL: what an upgrade makes of the copy of the one before."""
    path = folder / "swarm_hub.db"
    last = ROOT / f"tests/storage/migrations/schemas/{schema.REVISIONS[-2]}.sql"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(last.read_text())
    store = Store.on_file(path, Clock())
    await store.open()
    await store.close()
    with closing(sqlite3.connect(path)) as database:
        return "\n".join(database.iterdump())


def test_a_field_of_a_message(tree: Tree) -> None:
    messages = "swarm_hub/models/messages.py"
    tree.replace(
        messages,
        "    lacks: frozenset[str] = frozenset()\n",
        "    lacks: frozenset[str] = frozenset()\n    until: str | None = None\n",
    )
    tree.replace(messages, '"reason": self.reason}', '"reason": self.reason, "until": self.until}')
    tree.replace(
        messages,
        '            read_features(fields.get("lacks")),\n',
        '            read_features(fields.get("lacks")),\n            fields.get("until"),\n',
    )
    test = tree.write(
        "tests/models/test_until.py",
        """
        from swarm_hub.models.messages import Nack


        def test_it_is_read_where_it_was_sent():
            sent = Nack(("j.0.1",), "full", until="noon")
            assert Nack.from_wire(sent.to_wire()) == sent
            assert Nack.from_wire({"ids": ["j.0.1"], "reason": "full"}).until is None
        """,
    )
    tree.test(test)
