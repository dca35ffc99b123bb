"""Who unsubscribed a member, as SQL: a person until proven otherwise (``docs/what-mailchimp-answers.md``).

Expressions over ``m``, the member as the mirror knows it, and ``excluded``, the member as it was just read.
"""

from __future__ import annotations

from typing import Final

from mcsync.mailchimp import ADMIN_REASONS

# Who unsubscribed a member is a person until proven otherwise. Only two wordings are staff's or a program's;
# a reason that is empty or unknown is the person's own act, unless a call of ours explains an empty one.
_ADMIN: Final = (
    r"lower(regexp_replace(btrim(coalesce({0}, ''), E' \t\r\n'), '\s+', ' ', 'g')) in ("
    + ", ".join(f"'{reason}'" for reason in ADMIN_REASONS)
    + ")"
)
_BLANK: Final = "btrim(coalesce({0}, '')) = ''"

_EXPLAINED: Final = """(m.unsubscribe_intent_at is not null
        and excluded.last_changed >= date_trunc('second', m.unsubscribe_intent_at))"""

# An unsubscribe of ours that was read once stays ours when it is read again, also later (a tag moves
# ``last_changed``), as long as nothing says that the member was subscribed in between, and as long as the
# reason did not go from the admin's wording to none.
_STILL_OURS: Final = f"""(m.status = 'unsubscribed' and m.unsubscribed_by = 'us'
        and not {_ADMIN.format("m.unsubscribe_reason")}
        and not coalesce(excluded.timestamp_opt > m.timestamp_opt, false)
        and not coalesce(excluded.timestamp_signup > m.timestamp_signup, false))"""

WHO: Final = f"""case
        when excluded.status <> 'unsubscribed' then null
        when {_ADMIN.format("excluded.unsubscribe_reason")} then case
            when m.status = 'unsubscribed' then coalesce(m.unsubscribed_by, 'others')
            when {_EXPLAINED} then 'us'
            else 'others' end
        when not {_BLANK.format("excluded.unsubscribe_reason")} then 'person'
        when {_STILL_OURS} then 'us'
        -- an intent whose call was never answered explains an empty reason for a day, and not for ever
        when m.status <> 'unsubscribed' and {_EXPLAINED}
             and m.unsubscribe_intent_at > now() - interval '1 day' then 'us'
        else 'person' end"""
"""``us``, ``person`` or ``others``; null for a member who is not unsubscribed."""

WHO_AT_FIRST: Final = f"""case when a.status = 'unsubscribed'
            then case when {_ADMIN.format("a.reason")} then 'others' else 'person' end end"""
"""The same for a member ``a`` that the mirror does not know yet: no call of ours can explain it."""
