"""ABI `range`: a half-open range of integers, `(lo, hi) -> i64`."""

from .abi import Session
from .failure import Failure
from .shape import Shape

_I64_MIN = -(2**63)
_I64_MAX = 2**63 - 1


class _Range:
    name = "range"
    rank = 30
    wants = "a function (i64, i64) -> i64"
    uses_files = False

    def entries(self, shape: Shape) -> tuple[str, ...]:
        return shape.functions("(i64, i64) -> i64")

    def run(self, session: Session, body: bytes | bytearray) -> bytes:
        lo, hi = _bounds(body)
        return b"%d" % session.call(session.entry, lo, hi)


def _bounds(body: bytes | bytearray) -> tuple[int, int]:
    try:
        # 64 bytes hold any two i64; longer text would only cost time.
        lo, hi = (int(word) for word in body[:64].split())
    except ValueError:
        lo, hi = 0, _I64_MAX + 1
    if not _I64_MIN <= lo <= _I64_MAX or not _I64_MIN <= hi <= _I64_MAX or len(body) > 64:
        raise Failure("bad_input", 'The input of abi range must be two i64 such as "0 1000"')
    return lo, hi


ABI = _Range()
