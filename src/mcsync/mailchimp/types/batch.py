"""The bulk call's answer (MC 3.3) and asynchronous batches (MC 10)."""

from mcsync.mailchimp.types.base import UNTOLD, Ident, MailchimpModel, Rows, Text, Timestamp
from mcsync.mailchimp.types.tag import Tag


class BatchMember(MailchimpModel):
    """The reduced member of a bulk answer."""

    id: Text = ""
    email_address: Ident
    contact_id: Text = ""
    status: Text = ""
    last_changed: Timestamp = None
    timestamp_opt: Timestamp = None
    timestamp_signup: Timestamp = None
    tags: tuple[Tag, ...] = ()


class BatchRowError(MailchimpModel):
    """Why one row of a bulk call was not taken."""

    email_address: Text = ""
    error: Text = ""
    error_code: Text = ""
    field: Text = ""
    field_message: Text = ""


class BatchResult(MailchimpModel):
    """Answer of the bulk call: 200 even when every row failed.

    A row that cannot be read is missing here, and its member has to be read again.
    """

    new_members: Rows[BatchMember] = UNTOLD
    updated_members: Rows[BatchMember] = UNTOLD
    errors: Rows[BatchRowError] = UNTOLD


class BatchStatus(MailchimpModel):
    """State of an asynchronous batch; `finished` does not mean that its operations succeeded."""

    id: Ident
    status: Text = ""
    total_operations: int = 0
    finished_operations: int = 0
    errored_operations: int = 0
    submitted_at: Timestamp = None
    completed_at: Timestamp = None
    response_body_url: Text = ""
