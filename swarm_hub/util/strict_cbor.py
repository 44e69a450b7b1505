"""CBOR from strangers: no tags, no second spelling of a key, no deep nesting, nothing after it."""

import io
from typing import Any, Final, NoReturn

import cbor2

# Envelopes nest: frame, message, fields, a batch, its items and their fields. Twelve is twice what
# the protocol uses and far below any recursion limit.
_MAX_DEPTH: Final = 12
# Every tag the library decodes by itself is refused: shared references, patterns, dates and
# big numbers have no place in the protocol and are the dangerous part of a CBOR decoder.
_KNOWN_TAGS: Final = (
    *(0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000, 55799),
)


def parse_cbor(raw: bytes) -> Any:
    """Read the one CBOR value that makes up all of `raw`; raises ValueError."""
    stream = io.BytesIO(raw)
    decoder = cbor2.CBORDecoder(
        stream,
        tag_hook=_refuse_tag,
        semantic_decoders=_REFUSED_TAGS,
        max_depth=_MAX_DEPTH,
        allow_indefinite=False,
        allow_duplicate_keys=False,
        strict_hashable_types=True,
    )
    try:
        value = decoder.decode()
    # A hostile body may raise nearly anything inside the decoder (MemoryError and OverflowError
    # were seen in older versions); whatever it is, the sender is at fault.
    except Exception as error:
        raise ValueError(f"not valid CBOR: {error}") from error
    if stream.tell() != len(raw):
        raise ValueError("bytes after its end")
    return value


def _refuse_tag(*_: object) -> NoReturn:
    raise ValueError("CBOR tags are not used in this protocol")


_REFUSED_TAGS: Final = dict.fromkeys(_KNOWN_TAGS, _refuse_tag)
