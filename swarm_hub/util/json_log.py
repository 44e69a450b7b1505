"""Lines of the log as JSON, for programs that collect them."""

import json
import logging
from datetime import UTC, datetime


class JsonFormatter(logging.Formatter):
    """One object a line: `time`, `level`, `logger`, `message`, and a traceback as `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; JSON itself writes control characters so that they act on nothing."""
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told)
