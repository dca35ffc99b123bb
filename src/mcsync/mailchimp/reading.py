"""Reading the JSON of an answer, whatever single value in it is odd."""

import json
import logging
import re
from collections.abc import Callable
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from mcsync.mailchimp.types.base import MailchimpModel, Rows

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")
_Model = TypeVar("_Model", bound=MailchimpModel)

# A zero character is valid JSON, and no database stores it. Only an odd number of backslashes escapes.
_ZERO = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


def reader(model: type[_Model]) -> Callable[[bytes], _Model]:
    """Return a reader of the model's JSON; it logs how many rows it could not read."""

    def read(body: bytes) -> _Model:
        answer = _tolerantly(model.model_validate_json, body)
        for name in model.model_fields:
            rows = getattr(answer, name)
            if isinstance(rows, Rows):
                report(rows, f"{model.__name__}.{name}")
        return answer

    return read


def rows_reader(adapter: TypeAdapter[Rows[_Model]], name: str) -> Callable[[bytes], Rows[_Model]]:
    """Return a reader of an answer that is nothing but an array of rows.

    A lone object counts as one row, an empty one as no rows. Raises `ValueError` where there is no array.
    """

    def read(body: bytes) -> Rows[_Model]:
        text = body.strip()
        if text.startswith(b"{"):
            text = b"[]" if not text[1:-1].strip() else b"[" + text + b"]"
        rows = _tolerantly(adapter.validate_json, text)
        if not rows.told:
            message = "the answer is no array"
            raise ValueError(message)
        report(rows, name)
        return rows

    return read


def report(rows: Rows[_Model], name: str) -> None:
    """Log that rows were left out: how many, and nothing of what they held."""
    if rows.unreadable:
        _log.warning("mailchimp_rows_unreadable: %s, %d of %d", name, rows.unreadable, rows.raw)


def _tolerantly(validate: Callable[[bytes], _Answer], body: bytes) -> _Answer:
    if b"\\u0000" in body:
        body = _ZERO.sub(rb"\1", body)
    try:
        return validate(body)
    except ValidationError as error:
        if error.errors(include_input=False)[0]["type"] != "json_invalid":
            raise
    # Half a character (a lone surrogate, a byte that is no UTF-8) spoils one text, not the answer.
    found = json.loads(body.decode("utf-8", errors="replace"))
    repaired = json.dumps(found, ensure_ascii=False).encode("utf-8", errors="replace")
    return validate(repaired)
