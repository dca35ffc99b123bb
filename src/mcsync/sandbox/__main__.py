"""`python -m mcsync.sandbox --host 127.0.0.1 --port 0`."""

from __future__ import annotations

import argparse
import json
import signal
import sys

from .config import SandboxConfig, patched
from .server import run


def main() -> None:
    """Parse the arguments and serve; SIGINT and SIGTERM stop it."""
    parser = argparse.ArgumentParser(prog="python -m mcsync.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    parser.add_argument(
        "--config", type=json.loads, default={}, help="settings as a JSON object, camelCase"
    )
    arguments = parser.parse_args()
    # The server passes the signal on when it has stopped; being asked to stop is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        config = patched(SandboxConfig(), arguments.config)
    except (AttributeError, TypeError, ValueError) as error:
        parser.error(f"argument --config: {error}")
    try:
        run(arguments.host, arguments.port, config)
    except KeyboardInterrupt:
        return
    except OSError as error:  # most often a port that is taken
        parser.exit(1, f"The sandbox cannot listen on {arguments.host}: {error.strerror}.\n")


if __name__ == "__main__":
    main()
