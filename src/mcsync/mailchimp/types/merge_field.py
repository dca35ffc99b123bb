"""Merge fields: the columns of an audience (MC 5)."""

from mcsync.mailchimp.types.base import MailchimpModel, Text


class MergeFieldOptions(MailchimpModel):
    """What a field of its type may hold."""

    default_country: int | None = None
    phone_format: Text = ""
    date_format: Text = ""
    choices: tuple[str, ...] = ()
    size: int | None = None


class MergeField(MailchimpModel):
    """A merge field. The address itself, EMAIL, is never listed."""

    merge_id: int
    tag: str
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

    merge_fields: tuple[MergeField, ...] = ()
    total_items: int = 0
