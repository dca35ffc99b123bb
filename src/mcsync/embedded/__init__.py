"""Real PostgreSQL and Valkey from wheels, for ``mcsync dev``, ``mcsync demo`` and the tests.

Nothing here is for production: give that an ordinary PostgreSQL and Redis or Valkey. Both servers
listen on 127.0.0.1 on a free port behind a random password, run as direct children with a guard
(:mod:`mcsync.processes`), and start again on the same data after a crash. PostgreSQL refuses to run
as root, so there it runs as an unprivileged account that every system has.
"""

from mcsync.embedded.host import LOOPBACK, EmbeddedError, free_port, write_private
from mcsync.embedded.postgres import EmbeddedPostgres
from mcsync.embedded.valkey import EmbeddedValkey

__all__ = [
    "LOOPBACK",
    "EmbeddedError",
    "EmbeddedPostgres",
    "EmbeddedValkey",
    "free_port",
    "write_private",
]
