"""``python -m mcsync``: the same as the command ``mcsync``."""

from mcsync.cli import main

main()
