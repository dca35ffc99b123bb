"""Every table in one place, for Alembic: importing this fills ``Base.metadata``."""

from mcsync.core.db import Base, platform
from mcsync.features.audiences import models as audiences
from mcsync.features.audit import models as audit
from mcsync.features.campaigns import models as campaigns
from mcsync.features.connection import models as connection
from mcsync.features.contacts import models as contacts
from mcsync.features.erasure import models as erasure
from mcsync.features.preferences import models as preferences
from mcsync.features.segments import models as segments
from mcsync.features.sources import models as sources
from mcsync.features.subscribers import models as subscribers
from mcsync.features.sync import models as sync
from mcsync.features.transactional import models as transactional
from mcsync.features.webhooks import models as webhooks

__all__ = [
    "Base",
    "audiences",
    "audit",
    "campaigns",
    "connection",
    "contacts",
    "erasure",
    "platform",
    "preferences",
    "segments",
    "sources",
    "subscribers",
    "sync",
    "transactional",
    "webhooks",
]
