"""The one place that knows a CBOR library: cbor2, or pure Python where it is not installed.

Values come from strangers: no tags, no second spelling of a key, no deep nesting, nothing after it.
"""

import io
from collections.abc import Callable
from typing import Any, Final, NoReturn

from swarm_hub.util import pure_cbor

try:
    import cbor2
except ImportError:
    cbor2 = None  # type: ignore[assignment]

# Envelopes nest: frame, message, fields, a batch, its items and their fields. Twelve is twice what
# the protocol uses and far below any recursion limit.
MAX_DEPTH: Final = 12
# Every tag the library decodes by itself is refused: shared references, patterns, dates and
# big numbers have no place in the protocol and are the dangerous part of a CBOR decoder.
_KNOWN_TAGS: Final = (
    *(0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000, 55799),
)


def _refuse_tag(*_: object) -> NoReturn:
    raise ValueError("CBOR tags are not used in this protocol")


_NO_TAGS: Final[dict[str, Any]] = {
    "tag_hook": _refuse_tag,
    "semantic_decoders": dict.fromkeys(_KNOWN_TAGS, _refuse_tag),
}
_STRICT: Final[dict[str, Any]] = {
    **_NO_TAGS,
    "max_depth": MAX_DEPTH,
    "allow_indefinite": False,
    "allow_duplicate_keys": False,
    "strict_hashable_types": True,
}


def _knows_strictness() -> bool:
    """Whether there is a cbor2 that has these options: 6 does, 5 does not."""
    if cbor2 is None:
        return False
    try:
        cbor2.CBORDecoder(io.BytesIO(), **_STRICT)
    except TypeError:
        return False
    return True


HAS_CBOR2: Final = _knows_strictness()

_dumps: Callable[..., bytes] = cbor2.dumps if HAS_CBOR2 else pure_cbor.dumps
# Encodes a value, its maps in the order they have. The library's own function: a call in between
# would be paid for by every message.
to_cbor: Callable[[object], bytes] = _dumps


def to_canonical_cbor(value: object) -> bytes:
    """Encode a value in the one way there is (RFC 8949, section 4.2): what is signed or hashed."""
    return _dumps(value, canonical=True)


def parse_cbor(raw: bytes) -> Any:
    """Read the one CBOR value that makes up all of `raw`; raises ValueError."""
    if not HAS_CBOR2:
        try:
            return pure_cbor.loads(raw, MAX_DEPTH)
        except ValueError as error:
            raise ValueError(f"not valid CBOR: {error}") from error
    stream = io.BytesIO(raw)
    decoder = cbor2.CBORDecoder(stream, **_STRICT)
    try:
        value = decoder.decode()
    # A hostile body may raise nearly anything inside the decoder (MemoryError and OverflowError
    # were seen in older versions); whatever it is, the sender is at fault.
    except Exception as error:
        raise ValueError(f"not valid CBOR: {error}") from error
    if stream.tell() != len(raw):
        raise ValueError("bytes after its end")
    return value


def parse_canonical_cbor(raw: bytes) -> Any:
    """Read a value that is encoded in the one way there is; raises ValueError.

    A signature or checksum covers that encoding, so another one of the same value is refused.
    """
    try:
        # Encoding again shows bytes after the end, and other spellings.
        value = cbor2.loads(raw, **_NO_TAGS) if HAS_CBOR2 else pure_cbor.loads(raw, MAX_DEPTH)
        same = _dumps(value, canonical=True) == raw
    except Exception as error:
        raise ValueError(f"not valid CBOR: {error}") from error
    if not same:
        raise ValueError("not encoded in the canonical way")
    return value
