"""`swarm-hub example` gives whoever has only the wheel a module to submit."""

from click.testing import CliRunner

from swarm_hub.cli import main
from swarm_hub.components.sandbox import is_wat
from tests.conftest import EXAMPLES
from tests.helpers.command_line import Run


def test_it_lists_every_example_that_needs_no_compiler() -> None:
    listed = CliRunner().invoke(main, ["example"]).output.splitlines()
    assert [line.split()[0] for line in listed] == sorted(
        path.parent.name for path in EXAMPLES.glob("*/*.wat")
    )
    assert all(len(line.split()) > 4 for line in listed)


def test_it_prints_the_text_of_a_module_as_it_is() -> None:
    for path in EXAMPLES.glob("*/*.wat"):
        printed = CliRunner().invoke(main, ["example", path.parent.name]).output
        assert printed == path.read_text("utf-8")
        assert is_wat(printed.encode())


def test_an_example_that_is_not_there_is_told_with_those_that_are(run: Run) -> None:
    done = run("example", "prims")
    assert (done.code, done.out) == (1, "")
    assert "known: bytesum, echo, primes, sum_i32, wordcount; did you mean primes?" in done.err
