"""The light workers of the mesh's benchmark stand for real ones."""

import inspect

from light import run_nothing

from swarm_hub.components.sandbox import Sandbox


def test_what_stands_for_a_sandbox_takes_what_that_takes() -> None:
    real, other = (
        {name: each.default for name, each in inspect.signature(run).parameters.items()}
        for run in (Sandbox.run, run_nothing)
    )
    assert list(real.values()) == list(other.values())
    assert list(real)[1:] == list(other)[1:]
