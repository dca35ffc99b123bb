"""The store: base of tables, engine, transactions."""

from mcsync.core.db.base import (
    Base,
    ChangeTracked,
    Identified,
    OrgScoped,
    OrgScopedRow,
    Timestamped,
)
from mcsync.core.db.hold import after_commit, before_commit
from mcsync.core.db.session import Database, make_engine, org_of

__all__ = [
    "Base",
    "ChangeTracked",
    "Database",
    "Identified",
    "OrgScoped",
    "OrgScopedRow",
    "Timestamped",
    "after_commit",
    "before_commit",
    "make_engine",
    "org_of",
]
