"""What a worker must not ignore in a call, by name (docs/protocol.md, "What may change").

A field of `call` that an older worker may ignore needs no name. One that changes what is computed
gets one here, and a line in `gateway/submission/module_call.py` that says which jobs need it.
"""

from collections.abc import Iterable
from typing import Final

DETERMINISTIC: Final = "deterministic"
FUEL: Final = "fuel"
SCRIPT: Final = "script"
# Of shards whose item is an argument.
ARGUMENT: Final = "argument"
# Of abis that came later: a command that reads frames, and QuickJS-NG's reactor.
FRAMES: Final = "frames"
QJS: Final = "qjs"
# Not of a call: the worker knows the message of that name.
PREEMPT: Final = "preempt"

# What this worker knows, as it says in its hello.
FEATURES: Final = frozenset({DETERMINISTIC, FUEL, SCRIPT, ARGUMENT, FRAMES, QJS, PREEMPT})
# What a worker that names no features knows: never more than version 2 began with.
BASELINE: Final = frozenset({DETERMINISTIC, FUEL, SCRIPT})

FEATURES_MAX: Final = 64
FEATURE_LENGTH_MAX: Final = 64


def unknown(needs: Iterable[str]) -> frozenset[str]:
    """Return which of the needed features this worker does not know."""
    return frozenset(needs) - FEATURES


def why_not(unknown: Iterable[str]) -> str:
    """Say why a call is refused."""
    return f"this worker does not know what the call needs: {', '.join(sorted(unknown))}"


def read_needs(value: object) -> tuple[str, ...]:
    """Read the features that a call needs, of which none may be dropped; raises ValueError."""
    if not isinstance(value, list) or len(value) > FEATURES_MAX or not all(map(_is_name, value)):
        raise ValueError(
            f"'needs' is not a list of at most {FEATURES_MAX} texts of 1 to {FEATURE_LENGTH_MAX} "
            "characters"
        )
    return tuple(value)


def read_features(value: object) -> frozenset[str]:
    """Read the features that an untrusted peer has or lacks; drops what isn't a name."""
    listed = value[:FEATURES_MAX] if isinstance(value, list) else []
    return frozenset(filter(_is_name, listed))


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= FEATURE_LENGTH_MAX
