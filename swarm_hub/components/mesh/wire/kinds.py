"""What a message is."""

from collections.abc import Mapping
from typing import Any

# One message as it is sent and received: its kind and its fields.
Message = tuple[str, Mapping[str, Any]]
