"""What all answers of Mailchimp have in common (MC 2)."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


class _Otherwise:
    """Take a default where the value does not fit.

    Said in pydantic's core instead of a validator function: a bulk answer has thousands of
    such fields, and a call into Python for each would double the cost of reading it.
    """

    def __init__(self, default: object) -> None:
        self._default = default

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.with_default_schema(
            handler(source), default=self._default, on_error="default"
        )


Timestamp = Annotated[datetime | None, _Otherwise(None)]
"""A time with its offset, whole seconds, UTC; None where Mailchimp sends `""` (MC 2)."""

Text = Annotated[str, _Otherwise("")]
"""A text that may arrive as null, then empty."""


class MailchimpModel(BaseModel):
    """An answer: immutable, unknown properties ignored, values kept out of error texts."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)
