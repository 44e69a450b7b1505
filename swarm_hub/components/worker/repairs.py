"""What the owner of a worker should do: trust a gateway, or have a phone let its hub live."""

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from swarm_hub.components.mesh import Mesh
from swarm_hub.components.signer import EnvelopeChannel
from swarm_hub.repairs import Repair
from swarm_hub.util.files import write_atomic

_LOGGER = logging.getLogger(__name__)

KILLS_FILE: Final = "kills.json"
_KILLS_KEPT: Final = 16
# So often a day is no accident.
_TOO_OFTEN: Final = 3
_DAY_S: Final = 86_400.0


def of_gateways(mesh: Mesh, channel: EnvelopeChannel) -> Iterable[Repair]:
    """Yield the gateways that are connected in vain, as this worker does not obey them."""
    for peer_id, hello in mesh.peers().items():
        key = hello.public_key
        if "gateway" not in hello.capabilities or key is None or channel.trusts(key):
            continue
        yield Repair(
            f"trust.{peer_id}",
            "warning",
            f"This worker does not trust the gateway {hello.name}",
            "It gives back whatever that gateway sends, and computes nothing for it.",
            "If that gateway is yours, join it by an invitation (there: swarm-hub invite), or put "
            f"its key into signer: trust: [{key.hex()}], and restart this hub.",
        )


class Kills:
    """When this hub was killed: on a phone that is seldom its owner's doing.

    A file says that it runs; only a stop in order takes that back.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / KILLS_FILE
        self._times: list[float] = []

    def begin(self, now: float) -> None:
        """Count the last life if it did not end in order."""
        self._times, ran = self._read()
        if ran:
            self._times = [*self._times, now][-_KILLS_KEPT:]
        self._write(runs=True)

    def end(self) -> None:
        """This life ends in order."""
        self._write(runs=False)

    def repairs(self, now: float) -> Iterable[Repair]:
        """Yield what is to be done if the hub was killed too often in the last day."""
        recent = [each for each in self._times if 0 <= now - each < _DAY_S]
        if len(recent) >= _TOO_OFTEN:
            yield Repair(
                "phone.killed",
                "warning",
                f"Android killed this hub {len(recent)} times in the last 24 h",
                "Shards that run here are lost and done again elsewhere; the phone is of less use.",
                "Let Android not optimise Termux (Battery: Unrestricted), keep its notification, "
                "and from a computer, once, take off the limit of background processes; "
                "swarm-hub doctor has more. For Android 12L and newer:",
                "adb shell settings put global settings_enable_monitor_phantom_procs false",
                since=recent[0],
            )

    def _read(self) -> tuple[list[float], bool]:
        try:
            found: Any = json.loads(self._file.read_bytes())
            return [float(each) for each in found["killed_at"]][-_KILLS_KEPT:], bool(found["runs"])
        except FileNotFoundError:
            return [], False
        except (OSError, ValueError, TypeError, KeyError) as error:
            _LOGGER.warning("%s can't be read, and is begun anew: %s", self._file, error)
            return [], False

    def _write(self, *, runs: bool) -> None:
        content = json.dumps({"runs": runs, "killed_at": self._times}).encode()
        try:
            write_atomic(self._file, content, durable=False)
        except OSError as error:
            _LOGGER.debug("Can't note that the hub runs: %s", error)
