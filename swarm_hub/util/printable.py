"""Texts of strangers for terminals and logs: control characters become visible."""

import logging
import re
from typing import Any, Final

# C0 but for the line break and the tab, DEL, C1, what turns the writing direction (which can make
# a name look like another), and halves of surrogate pairs.
_HIDDEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""Return a text in which each such character is written as `\x1b` or `\u202e`."""
    return _HIDDEN.sub(_spelled, text)


class PrintableFormatter(logging.Formatter):
    """Formats records so that what strangers said is one line that acts on no terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line; a break in the message would look like a line of the hub's own."""
        return printable(super().formatMessage(record)).replace("\n", "\\n")

    def formatException(self, ei: Any) -> str:
        """Return a traceback, with its line breaks."""
        return printable(super().formatException(ei))


def _spelled(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
