"""Times of day as a person beside the device reads them."""

import time
from typing import Final

_DAY_S: Final = 86_400.0


def clock_text(time_s: float, now_s: float) -> str:
    """Render a coming time as 14:30 today, Mon 14:30 within a week, else with its date."""
    local, now = time.localtime(time_s), time.localtime(now_s)
    if local[:3] == now[:3]:
        return time.strftime("%H:%M", local)
    if 0 <= time_s - now_s < 6 * _DAY_S:
        return time.strftime("%a %H:%M", local)
    return time.strftime("%Y-%m-%d %H:%M", local)
