"""The command `swarm-hub`, and `python -m swarm_hub`."""

import time

_STARTED_AT = time.monotonic()


def main() -> None:
    """Run the command line."""
    from swarm_hub.cli import run

    run(_STARTED_AT)


if __name__ == "__main__":
    main()
