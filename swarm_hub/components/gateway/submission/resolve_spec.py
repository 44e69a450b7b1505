"""What a job asks for, checked against its module and its dataset; pure.

A misfit raises InvalidSpec that says what to do.
"""

from typing import Final

from swarm_hub.components.gateway.submission.dataset import Measured
from swarm_hub.components.gateway.submission.job_plan import shard_items_max
from swarm_hub.components.gateway.submission.spec import RequestedSpec
from swarm_hub.components.sandbox import ModuleReport, archive
from swarm_hub.exceptions import InvalidSpec, TooLarge
from swarm_hub.helpers.config_validation import did_you_mean
from swarm_hub.models.call import SCRIPT_BYTES_MAX, Script
from swarm_hub.models.job import ON_ERROR_SKIP, REDUCE_MODULE, Split
from swarm_hub.models.submission import Submission
from swarm_hub.util.hashing import sha256_hex

# The splits that these abis take; the others take lines unless the spec says otherwise.
_ONLY_SPLIT: Final = {
    "i32-array": Split.I32,
    "range": Split.RANGE,
    "wasi-files": Split.FILES,
}
# The only one whose modules have arguments and whose shards are no files.
_ARGS_ABI: Final = "wasi"
# Those whose modules have arguments.
_SCRIPT_ABIS: Final = ("wasi", "wasi-files", "wasi-frames", "qjs")
_REDUCE_NO_FILES: Final = ("sum", "min", "max", "json")
_DEFAULT_REDUCE: Final = {"i32-array": "sum", "range": "sum", "wasi-files": "files"}
# Arguments that stand for the script's path and its text.
_SCRIPT_PATH: Final = "{script}"
_SCRIPT_TEXT: Final = "{script_text}"


def default_split(abi: str) -> Split:
    """Return how a dataset falls into items if the spec does not say."""
    return _ONLY_SPLIT.get(abi, Split.LINES)


def choose_abi(requested: RequestedSpec, report: ModuleReport) -> str:
    """Return the abi that was asked for, or else the first one that fits."""
    known = tuple(abi for abi, _ in report.candidates)
    if requested.abi is not None:
        if requested.abi not in known:
            raise InvalidSpec(
                "unknown_abi",
                f"unknown abi {requested.abi!r}; known: {', '.join(known)}"
                f"{did_you_mean(requested.abi, known)}",
            )
        return requested.abi
    abis = report.abis
    if requested.split is not None:
        # The dataset helps to choose: a range or i32 items fit only their own abi and wasi.
        split = requested.split[0]
        abis = tuple(abi for abi in abis if _fits(abi, split))
    if not abis and report.abis:
        assert requested.split is not None, "else they would be those that fit"
        fitting = " or ".join(f"{abi} (split {default_split(abi).value})" for abi in report.abis)
        raise InvalidSpec(
            "no_abi",
            f"the module's exports fit {fitting}, which takes no split "
            f"{requested.split[0].value}; leave out `split`, or take another module",
        )
    if not abis:
        raise InvalidSpec(
            "no_abi",
            f"the module's exports fit none of {', '.join(known)}; see `swarm-hub inspect` for "
            "what it exports",
        )
    return abis[0]


def choose_entry(requested: RequestedSpec, report: ModuleReport, abi: str) -> str:
    """Return the export to call: the one that was asked for, or the only one that fits."""
    fitting = report.entries(abi)
    if requested.entry is not None:
        if requested.entry in fitting:
            return requested.entry
        exported = {export.name: export for export in report.exports}
        if requested.entry in exported:
            raise InvalidSpec(
                "wrong_signature",
                f"the export {requested.entry} is {exported[requested.entry].kind} "
                f"{exported[requested.entry].type}, which does not fit abi {abi}",
            )
        raise InvalidSpec(
            "missing_export",
            f"the module has no export {requested.entry!r}"
            f"{did_you_mean(requested.entry, tuple(exported))}",
        )
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise InvalidSpec(
            "ambiguous_entry",
            f"several exports fit abi {abi}: {', '.join(fitting)}; choose one with `entry`",
        )
    raise InvalidSpec(
        "missing_export",
        f"no export fits abi {abi}; the module exports "
        + (", ".join(f"{each.name}: {each.type}" for each in report.exports[:20]) or "nothing"),
    )


def choose_reduce(requested: RequestedSpec, report: ModuleReport, abi: str) -> str:
    """Return how results are folded; by the abi if the spec does not say."""
    folds = abi == "bytes" and report.folds
    problem = None
    if requested.reduce == REDUCE_MODULE and not folds:
        problem = (
            "reduce module needs abi bytes and a module that exports `reduce` "
            "(i32, i32, i32, i32) -> i64; choose another reduce, such as concat"
        )
    elif requested.reduce == "files" and abi != "wasi-files":
        problem = (
            f"reduce files folds what abi wasi-files gives, but this job has abi {abi}; choose "
            "another reduce, such as concat or list"
        )
    elif requested.reduce in _REDUCE_NO_FILES and abi == "wasi-files":
        problem = (
            f"reduce {requested.reduce} folds numbers or JSON, but abi wasi-files gives archives "
            "of files; leave reduce out, or use abi wasi"
        )
    if problem is not None:
        raise InvalidSpec("no_reduce", problem)
    default = REDUCE_MODULE if folds else _DEFAULT_REDUCE.get(abi, "concat")
    return requested.reduce or default


def place_script(
    submission: Submission, requested: RequestedSpec, abi: str
) -> tuple[Script | None, tuple[str, ...]]:
    """Return the job's script and its arguments, with the script filled in or put first."""
    if submission.script is None:
        return None, requested.args
    name, body = submission.script
    if abi not in _SCRIPT_ABIS:
        raise InvalidSpec(
            "no_script",
            f"a script needs an interpreter of abi {', '.join(_SCRIPT_ABIS[:-1])} or "
            f"{_SCRIPT_ABIS[-1]}, but this module has abi {abi}",
        )
    if not archive.is_file_name(name):
        raise InvalidSpec("bad_file_name", f"script: {name[:100]!r} is not a file name")
    if len(body) > SCRIPT_BYTES_MAX:
        raise TooLarge(
            "script_too_large",
            f"the script has {len(body)} bytes, more than the limit of {SCRIPT_BYTES_MAX}",
        )
    script = Script(name, sha256_hex(body), len(body))
    path = f"/script/{name}"
    if not any(arg in (_SCRIPT_PATH, _SCRIPT_TEXT) for arg in requested.args):
        return script, (path, *requested.args)
    try:
        values = {_SCRIPT_PATH: path, _SCRIPT_TEXT: body.decode()}
    except UnicodeDecodeError:
        values = {_SCRIPT_PATH: path}
    return script, tuple(values.get(arg, arg) for arg in requested.args)


def choose_shard_size(requested: RequestedSpec, split: Split) -> int | None:
    """Return how many items each shard has; None lets the scheduler decide."""
    if split is not Split.ARGS:
        return requested.shard_size
    if requested.shard_size not in (None, 1):
        raise InvalidSpec(
            "no_shard_size",
            "split args calls the module once for each item, so shard_size can only be 1; leave it "
            "out",
        )
    return 1


def choose_isolate(requested: RequestedSpec, reducer: str) -> bool:
    """Return whether shards that fail are split, by default wherever no cuts are promised."""
    if requested.isolate is None:
        cuts = requested.shard_size is not None or reducer == "list"
        return not cuts and not requested.known_answers
    if requested.isolate and requested.known_answers:
        raise InvalidSpec(
            "no_isolation",
            "known_answers are for shards of exactly their items, which isolate would split; leave "
            "one of them out",
        )
    return requested.isolate


def choose_max_failures(requested: RequestedSpec, n_items: int) -> int | None:
    """Return how many items may be left out; None is any number."""
    most = requested.max_failures
    if most is not None and requested.on_error != ON_ERROR_SKIP:
        raise InvalidSpec(
            "no_max_failures",
            "max_failures says how many items may be left out; add on_error: skip, or remove it",
        )
    return int(most * n_items) if isinstance(most, float) else most


def check_fit(requested: RequestedSpec, abi: str, measured: Measured) -> None:
    """Check the abi and the sizes that were asked for against the dataset."""
    if requested.deterministic and abi == "wasi-files":
        raise InvalidSpec(
            "not_deterministic",
            "abi wasi-files can't be deterministic: the order of a directory, times and numbers of "
            "files are the device's own; use abi wasi or bytes, or redundancy 1",
        )
    if measured.split is Split.ARGS and abi != _ARGS_ABI:
        raise InvalidSpec(
            "wrong_split",
            f"split args gives arguments to a command of abi {_ARGS_ABI}; abi {abi} has none",
        )
    needed = _ONLY_SPLIT.get(abi)
    if needed is not None and measured.split is not needed:
        raise InvalidSpec(
            "wrong_split",
            f"abi {abi} takes split {needed.value}, not {measured.split.value}",
        )
    _check_known(requested, measured)
    shard_size = choose_shard_size(requested, measured.split)
    if shard_size is not None and -(-measured.n_items // shard_size) > 1_000_000:
        raise InvalidSpec(
            "too_many_shards",
            f"shard_size {shard_size} would cut {measured.n_items} items into more than "
            "1,000,000 shards; choose a larger one",
        )


def _fits(abi: str, split: Split) -> bool:
    return abi == _ARGS_ABI if split is Split.ARGS else _ONLY_SPLIT.get(abi, split) is split


def _check_known(requested: RequestedSpec, measured: Measured) -> None:
    n_items_max = shard_items_max(measured.size_bytes, measured.n_items)
    for known in requested.known_answers:
        end = known.first_item + known.n_items
        if end > measured.n_items:
            raise InvalidSpec(
                "bad_known_answer",
                f"a known answer is for items {known.first_item} to {end - 1}; the dataset has "
                f"{measured.n_items} items, counted from 0",
            )
        if known.n_items > n_items_max:
            raise InvalidSpec(
                "bad_known_answer",
                f"a known answer is for {known.n_items} items; a shard of this dataset "
                f"has at most {n_items_max}",
            )
