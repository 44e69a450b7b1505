"""Where in files of the owner's a fault is, out of an exception that their code raised."""

import traceback
from pathlib import Path


def blamed(root: Path, error: BaseException) -> tuple[Path, int | None] | None:
    """Return the file and line, at `root` or below it, that an error came from; None if from none.

    Of several the innermost counts.
    """
    if isinstance(error, SyntaxError) and error.filename is not None:
        path = Path(error.filename)
        if path.is_relative_to(root):
            return path, error.lineno
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(root):
            return path, frame.lineno
    return None


def worded(error: BaseException) -> str:
    """Return an error with its kind, on one line."""
    said = error.msg if isinstance(error, SyntaxError) else error
    return f"{type(error).__name__}: {said}".partition("\n")[0]
