"""QR codes in a terminal, for what is to go to a phone."""

import shutil
import sys
from typing import Final

from swarm_hub.cli.options import note

_QUIET_ZONE: Final = 2


def show_qr(text: str) -> None:
    """Draw a text on stderr, or say why that can't be."""
    import segno

    code = segno.make(text, error="l", micro=False)
    width = code.symbol_size(border=_QUIET_ZONE)[0]
    if shutil.get_terminal_size().columns < width:
        note(f"The terminal is too narrow for a QR code, which needs {width} columns")
        return
    try:
        "█▀▄".encode(sys.stderr.encoding or "ascii")
    except UnicodeEncodeError:
        note("The terminal can't show a QR code, which needs UTF-8")
        return
    code.terminal(out=sys.stderr, border=_QUIET_ZONE, compact=True)
