"""A real worker process that ends itself, as a power cut would, at a named point: dying_worker.py POINT.

Settings come from the environment, as for every worker. Without a point it lives.
"""

import os
import signal
import sys

from mcsync.core.crash import on_crash_point
from mcsync.core.settings import Settings
from mcsync.worker import run


def die_at(point: str) -> None:
    """Arranges the end."""

    def hook(name: str) -> None:
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)

    on_crash_point(hook)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        die_at(sys.argv[1])
    run(Settings())
