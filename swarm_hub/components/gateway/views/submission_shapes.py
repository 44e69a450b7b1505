"""What a submission looks like in each of its media types, for the description of the API."""

from typing import Any, Final

import voluptuous as vol

from swarm_hub.components.gateway.submission.spec import SPEC
from swarm_hub.util.described import described

_BINARY: Final = described({"type": "string", "format": "binary"})(lambda value: value)
_BINARIES: Final = described(
    {"type": "array", "items": {"type": "string", "format": "binary"}, "maxItems": 10_000}
)(lambda value: value)
_BASE64: Final = described({"type": "string", "contentEncoding": "base64"})(lambda value: value)
_DATASET: Final = described(
    {
        "type": ["array", "null"],
        "description": "Numbers, texts or JSON values; of a range its two ends.",
    }
)(lambda value: value)
_HASH: Final = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_SHA: Final = described(_HASH)(lambda value: value)
_SHAS: Final = described({"type": "array", "items": _HASH, "maxItems": 256})(lambda value: value)
_NAMED_SHAS: Final = described(
    {
        "anyOf": [
            _HASH,
            {"type": "null"},
            {"type": "array", "maxItems": 256, "description": "Of [name, hash]."},
        ]
    }
)(lambda value: value)
_SCRIPT: Final = described(
    {
        "type": ["object", "null"],
        "properties": {"name": {"type": "string"}, "text": {"type": "string"}},
        "required": ["name", "text"],
        "additionalProperties": False,
    }
)(lambda value: value)
_NAMED: Final = {"type": "array", "minItems": 2, "maxItems": 2, "description": "[name, bytes]"}
_NAMED_BYTES: Final = described(_NAMED)(lambda value: value)
_NAMED_PARTS: Final = described({"type": "array", "items": _NAMED, "maxItems": 10_000})(
    lambda value: value
)

SCHEMAS: Final[dict[str, Any]] = {
    "multipart/form-data": vol.Schema(
        {
            vol.Optional("module", description="A Wasm module, or its text (WAT)."): _BINARY,
            vol.Optional("module_sha", description="Of an uploaded blob, instead."): _SHA,
            vol.Optional("dataset", description="One or more files."): _BINARIES,
            vol.Optional("dataset_sha", description="Of uploaded blobs."): _SHAS,
            vol.Optional("files", description="More files, as a tar archive."): _BINARY,
            vol.Optional("script", description="A text that the module interprets."): _BINARY,
            vol.Optional("spec"): SPEC,
        }
    ),
    "application/cbor": vol.Schema(
        {
            vol.Optional("module", description="The bytes, or else `module_sha`."): _BINARY,
            vol.Optional("module_sha", description="Of a module that the hub has."): _SHA,
            vol.Optional("dataset"): _NAMED_PARTS,
            vol.Optional("dataset_sha", description="Of uploaded blobs."): _NAMED_SHAS,
            vol.Optional("script"): _NAMED_BYTES,
            vol.Optional("spec"): SPEC,
        }
    ),
    "application/json": vol.Schema(
        {
            vol.Optional("wasm_base64"): _BASE64,
            vol.Optional("module_sha", description="Of an uploaded blob, instead."): _SHA,
            vol.Optional("dataset_sha", description="Of uploaded blobs."): _NAMED_SHAS,
            vol.Optional("dataset"): _DATASET,
            vol.Optional("script"): _SCRIPT,
            vol.Optional("spec"): SPEC,
        }
    ),
}
# Its `map(lo, hi)` returns `hi - lo`, so that it counts the numbers of a range.
_COUNTS: Final = "AGFzbQEAAAABBwFgAn5+AX4DAgEABwcBA21hcAAACgkBBwAgASAAfQs="
EXAMPLES: Final[dict[str, Any]] = {
    "application/json": {
        "wasm_base64": _COUNTS,
        "dataset": [0, 1000],
        "spec": {"split": "range", "reduce": "sum"},
    },
}
HEADERS: Final[dict[str, dict[str, Any]]] = {
    "Idempotency-Key": {
        "type": "string",
        "pattern": "^[!-~]{1,200}$",
        "description": "A submission with the key of an earlier one is that one.",
    }
}
