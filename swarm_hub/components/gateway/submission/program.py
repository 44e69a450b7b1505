"""A job that is a program: it becomes the script of the module that interprets its language."""

import dataclasses
from typing import Final

from swarm_hub.components.gateway.submission.spec import RequestedSpec
from swarm_hub.components.runtimes import Runtime, language_of
from swarm_hub.components.sandbox import ModuleReport
from swarm_hub.exceptions import InvalidSpec
from swarm_hub.models.submission import Submission

_SCRIPT_PATH: Final = "{script}"


def runtime_of(submission: Submission, requested: RequestedSpec) -> str | None:
    """Return the language of a program, None where the submission has a module of its own.

    Raises InvalidSpec for one that has both, or neither.
    """
    if submission.module:
        if requested.runtime is not None:
            raise InvalidSpec(
                "no_runtime",
                f"runtime {requested.runtime} interprets a script, so there is nothing to do for a "
                "module; leave one of them out",
            )
        return None
    if submission.script is None:
        if requested.runtime is not None:
            raise InvalidSpec(
                "no_script", f"runtime {requested.runtime} needs a program, sent as `script`"
            )
        return None
    name = submission.script[0]
    language = requested.runtime or language_of(name)
    if language is None:
        raise InvalidSpec(
            "no_runtime",
            f"nothing tells the language of {name[:100]!r}; say it as `runtime`, or send the "
            "module that interprets it",
        )
    return language


def as_script(
    submission: Submission, requested: RequestedSpec, runtime: Runtime
) -> tuple[Submission, RequestedSpec]:
    """Return a program's submission and spec as those of the module that interprets it."""
    language = runtime.language
    assert submission.script is not None, "runtime_of asks for it"
    name, source = submission.script
    args = requested.args
    if language.before and not any(_SCRIPT_PATH in arg for arg in args):
        args = (_SCRIPT_PATH, *args)
    return (
        dataclasses.replace(submission, script=(name, language.script(name, source))),
        dataclasses.replace(
            requested,
            runtime=language.name,
            args=(*language.before, *args),
            env=tuple({**dict(language.env), **dict(requested.env)}.items()),
        ),
    )


def report_of(runtime: Runtime) -> ModuleReport:
    """Return what an inspection of a runtime's module would find that a job depends on."""
    abi, entry = runtime.language.abi, runtime.language.entry
    return ModuleReport((abi,), (), (), 0, None, None, candidates=((abi, (entry,)),))
