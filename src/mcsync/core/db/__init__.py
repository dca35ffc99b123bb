"""The store: base of tables, engine, transactions."""

from mcsync.core.db.base import (
    Base,
    ChangeTracked,
    Identified,
    Leased,
    OrgScoped,
    OrgScopedRow,
    Timestamped,
)
from mcsync.core.db.gates import lock_obtained
from mcsync.core.db.hold import after_commit, before_commit
from mcsync.core.db.session import BY_KEY, Database, look_up_by_key, make_engine, org_of
from mcsync.core.db.statistics import MUCH, analyse_grown_later, wrote
from mcsync.core.db.troubles import is_passing

__all__ = [
    "BY_KEY",
    "MUCH",
    "Base",
    "ChangeTracked",
    "Database",
    "Identified",
    "Leased",
    "OrgScoped",
    "OrgScopedRow",
    "Timestamped",
    "after_commit",
    "analyse_grown_later",
    "before_commit",
    "is_passing",
    "lock_obtained",
    "look_up_by_key",
    "make_engine",
    "org_of",
    "wrote",
]
