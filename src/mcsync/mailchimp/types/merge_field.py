"""Merge fields: the columns of an audience (MC 5)."""

from mcsync.mailchimp.types.base import UNTOLD, Choice, Ident, MailchimpModel, Rows, Text


class MergeFieldOptions(MailchimpModel):
    """What a field of its type may hold."""

    default_country: int | None = None
    phone_format: Text = ""
    date_format: Text = ""
    choices: tuple[Choice, ...] = ()
    size: int | None = None


class MergeField(MailchimpModel):
    """A merge field. The address itself, EMAIL, is never listed."""

    merge_id: int
    tag: Ident
    name: Text = ""
    type: Text = ""
    required: bool = False
    default_value: Text = ""
    public: bool = False
    display_order: int = 0
    options: MergeFieldOptions = MergeFieldOptions()
    help_text: Text = ""


class MergeFieldsPage(MailchimpModel):
    """One page of merge fields."""

    merge_fields: Rows[MergeField] = UNTOLD
    total_items: int = 0
