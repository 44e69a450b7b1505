"""Leaving out of plain content what nobody else may see: by its name, its look, or its text."""

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

REDACTED: Final = "**redacted**"
# What a value is called that nobody else may see, whatever component has it.
_SECRET_NAME: Final = re.compile(
    r"secret|token|password|passphrase|passwd|credential|private|api_?key|authorization|cookie|\bkey\b",
    re.IGNORECASE,
)
# Secrets that show what they are: our tokens, links with invitations, passwords in addresses, keys.
_SECRET_TEXT: Final = re.compile(
    r"swh_[A-Za-z0-9_-]{8,}|swarm://[^\s'\"]+|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)|(?i:(?<=bearer ))\S+"
    r"|-----BEGIN[^-]*PRIVATE KEY-----[\s\S]*?(?:-----END[^-]*-----|\Z)"
)
# A shorter one would be found in words that tell nothing of it.
_SECRET_MIN_CHARS: Final = 4


def without_secrets(content: Any, secrets: Collection[str], name: str = "") -> Any:
    """Return plain content without what is called a secret, looks like one, or is one of these."""
    match content:
        case Mapping():
            return {
                _redact(str(key), secrets): without_secrets(value, secrets, str(key))
                for key, value in content.items()
            }
        case list() | tuple() | set() | frozenset():
            return [without_secrets(each, secrets, name) for each in content]
        case None | bool():
            return content
        case str() | int() | float() if _SECRET_NAME.search(name) or str(content) in secrets:
            return REDACTED
        case int() | float():
            return content
        case _:
            return _redact(str(content), secrets)


def redacted_line(line: str) -> str:
    """Return a line of a configuration without what looks like a secret or is called one."""
    name, colon, value = line.partition(":")
    if value.strip() and _SECRET_NAME.search(name):
        return f"{name}{colon} {REDACTED}"
    return _SECRET_TEXT.sub(REDACTED, line)


def _redact(text: str, secrets: Collection[str]) -> str:
    for secret in secrets:
        if len(secret) >= _SECRET_MIN_CHARS:
            text = text.replace(secret, REDACTED)
    return _SECRET_TEXT.sub(REDACTED, text)
