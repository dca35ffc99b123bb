"""What all answers of Mailchimp have in common (MC 2).

Mailchimp sends values that its description does not know: null, `[]` for an empty object, a number
for a text. One such value must not make a page of a thousand members unreadable. So a property with
a default takes it where its value cannot be read, and an entry of a list or mapping that cannot be
read is left out. Properties without a default say which row it is: they stay strict. :class:`Rows`
holds the rows of a page and counts those that could not be read, so that nobody takes such a row for
one that Mailchimp no longer has.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

_Row = TypeVar("_Row")
_MOST = 2**63 - 1  # what a database column takes
_EARLIEST = datetime(1970, 1, 2, tzinfo=UTC)
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)


class Otherwise:
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


def _as_utc(value: datetime) -> datetime:
    """A time without an offset is UTC, as all of Mailchimp's are."""
    moment = value if value.tzinfo else value.replace(tzinfo=UTC)
    if not _EARLIEST <= moment <= _LATEST:
        message = "not a time of this service"
        raise ValueError(message)
    return moment


class _Moment:
    """A time with its offset. Only one that lacks it costs a call into Python."""

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        usual = core_schema.datetime_schema(tz_constraint="aware", ge=_EARLIEST, le=_LATEST)
        other = core_schema.no_info_after_validator_function(_as_utc, core_schema.datetime_schema())
        return core_schema.with_default_schema(
            core_schema.nullable_schema(
                core_schema.union_schema([usual, other], mode="left_to_right")
            ),
            default=None,
            on_error="default",
        )


Timestamp = Annotated[datetime | None, _Moment()]
"""A time with its offset, whole seconds, UTC; None where Mailchimp sends `""` (MC 2)."""

Text = Annotated[str, Otherwise("")]
"""A text that may arrive as null, then empty."""

Ident = Annotated[str, Field(min_length=1)]
"""A text that says which row it is: an id, an address, a status. Never empty, and never made up."""

Choice = Annotated[str, Field(coerce_numbers_to_str=True)]
"""A text that may arrive as a number."""


def _identified(row: Any) -> Any:
    if not row.identified:
        message = "nobody knows whose row this is"
        raise ValueError(message)
    return row


class Rows(tuple[_Row, ...]):  # noqa: SLOT001 - only a plain tuple may have none
    """The rows of an answer that could be read, in its order.

    `unreadable` counts those that could not. `told` is False where there was no array at all: such an
    answer does not say that there is nothing.
    """

    unreadable: int = 0
    told: bool = True

    @property
    def raw(self) -> int:
        """How many rows the answer had: what an offset has to count."""
        return len(self) + self.unreadable

    @property
    def complete(self) -> bool:
        """Whether what is not here is not there either."""
        return self.told and not self.unreadable

    @classmethod
    def of(cls, rows: Iterable[_Row], *, unreadable: int = 0, told: bool = True) -> Self:
        """Return the rows with what is known of their completeness."""
        made = cls(rows)
        made.unreadable = unreadable
        made.told = told
        return made

    @classmethod
    def _read(cls, found: tuple[_Row | None, ...]) -> "Rows[_Row]":
        readable = [row for row in found if row is not None]
        return cls.of(readable, unreadable=len(found) - len(readable))

    @classmethod
    def _untold(cls) -> "Rows[_Row]":
        return cls.of((), told=False)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        (row,) = get_args(source)
        schema = handler.generate_schema(row)
        if hasattr(row, "identified"):
            checked = core_schema.no_info_after_validator_function(_identified, schema)
            given = core_schema.union_schema(
                [core_schema.is_instance_schema(row), checked], mode="left_to_right"
            )
            schema = core_schema.json_or_python_schema(json_schema=checked, python_schema=given)
        each = core_schema.with_default_schema(schema, default=None, on_error="default")
        rows = core_schema.no_info_after_validator_function(
            cls._read, core_schema.tuple_variable_schema(each)
        )
        return core_schema.with_default_schema(
            rows, default_factory=cls._untold, on_error="default"
        )


UNTOLD: Rows[Any] = Rows.of((), told=False)
"""The rows of an answer that has none, not even an empty array."""


class MailchimpModel(BaseModel):
    """An answer: immutable, unknown properties ignored, values kept out of error texts.

    Every property with a default takes it where its value cannot be read (see the module).
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        inner: Any = handler.resolve_ref_schema(schema)
        while inner["type"] != "model-fields":
            inner = inner["schema"]
        for field in inner["fields"].values():
            _make_lenient(field["schema"])
        return schema


def _make_lenient(schema: Any) -> None:
    if schema["type"] != "default":
        return  # it has no default: what identifies the row stays strict
    schema["on_error"] = "default"
    _leave_out(schema["schema"])


def _leave_out(schema: Any) -> None:
    """Leave out what cannot be read of a list's or a mapping's entries; keep numbers storable."""
    match schema["type"]:
        case "nullable" | "default" | "function-before" | "function-after" | "function-wrap":
            _leave_out(schema["schema"])
        case "tuple" | "list" if "variadic_item_index" in schema or schema["type"] == "list":
            key = "items_schema"
            entry = schema[key][0] if schema["type"] == "tuple" else schema[key]
            lenient = _or_nothing(entry)
            schema[key] = [lenient] if schema["type"] == "tuple" else lenient
        case "dict":
            schema["values_schema"] = _or_nothing(schema["values_schema"])
        case "int":
            schema.setdefault("ge", -_MOST)
            schema.setdefault("le", _MOST)
        case "float":
            schema["allow_inf_nan"] = False


def _or_nothing(schema: Any) -> Any:
    if schema["type"] in ("any", "default"):
        return schema
    return core_schema.with_default_schema(schema, on_error="omit")
