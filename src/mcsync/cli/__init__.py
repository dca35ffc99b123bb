"""The command line: for operators, scripts and containers. See ``mcsync --help``."""


def main() -> None:
    """The entry point ``mcsync``."""
    # Not at the top: `python -m mcsync.cli...` and the tests import parts without the whole.
    from mcsync.cli.entry import main as enter

    enter()


__all__ = ["main"]
