"""One odd value makes no answer unreadable; what says which row it is stays strict (MC 21)."""

from __future__ import annotations

import importlib
import json
import logging
import pkgutil
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import mcsync.mailchimp
from mcsync.mailchimp import BatchResult, Member, MembersPage, RowOutcome, account_rows
from mcsync.mailchimp.reading import reader
from mcsync.mailchimp.transactional.caller import many
from mcsync.mailchimp.transactional.results import RecipientOutcome
from mcsync.mailchimp.types.base import MailchimpModel, Rows
from tests.mailchimp.recorded import MEMBER, SHAPES

for found in pkgutil.walk_packages(mcsync.mailchimp.__path__, "mcsync.mailchimp."):
    importlib.import_module(found.name)


def every_type(base: type[MailchimpModel] = MailchimpModel) -> Iterator[type[MailchimpModel]]:
    for each in base.__subclasses__():
        # a generic made by a test or a type of this module is none of the client's
        if each.__module__.startswith("mcsync."):
            yield each
        yield from every_type(each)


TYPES = sorted(set(every_type()), key=lambda each: each.__name__)
REQUESTS = {"Message", "Recipient"}
"""What is sent, not what is answered: bad values are refused before the call."""
GONE = "(gone)"
ODD: list[Any] = [
    None, [], {}, "", " ", "text", "7", "7.5", "0000-00-00 00:00:00", "2999-01-01", 7, -1, 0.5, 10**30,
    1e308, True, False, [None], [[]], [7], ["text"], [{}], {"a": None}, {"id": None}, "\x00", "\ud800",
    GONE,
]  # fmt: skip
odd = st.sampled_from(ODD)


def paths(shape: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in an answer."""
    if here:
        yield here
    if isinstance(shape, dict):
        for name, value in shape.items():
            yield from paths(value, (*here, name))
    elif isinstance(shape, list):
        for number, value in enumerate(shape):
            yield from paths(value, (*here, number))


def mutated(shape: Any, path: tuple[Any, ...], value: Any) -> Any:
    changed = json.loads(json.dumps(shape))
    at = changed
    for step in path[:-1]:
        at = at[step]
    if value == GONE:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return changed


def encoded(value: Any) -> bytes:
    """As JSON; also what no encoder writes, half a character and a number too large."""
    import json

    return json.dumps(value).encode()


def keys(model: type[MailchimpModel]) -> set[Any]:
    """The properties of an answer that say which row it is."""
    return {
        field.validation_alias or field.alias or name
        for name, field in model.model_fields.items()
        if field.is_required()
    }


def test_every_type_of_the_client_has_a_recorded_shape() -> None:
    assert set(TYPES) - set(SHAPES) == set()


def test_the_shapes_are_of_every_property() -> None:
    for model, shape in SHAPES.items():
        read = model.model_validate_json(orjson.dumps(shape))
        for name, field in model.model_fields.items():
            if not field.is_required() and name not in ("timestamp_signup", "ip_signup"):
                given = getattr(read, name)
                assert given is not None, f"{model.__name__}.{name}"


@pytest.mark.parametrize("model", list(SHAPES), ids=lambda model: model.__name__)
@given(data=st.data())
def test_an_odd_value_anywhere_leaves_the_rest_readable(
    model: type[MailchimpModel], data: st.DataObject
) -> None:
    shape = SHAPES[model]
    where = [path for path in paths(shape) if path[0] not in keys(model)]
    if not where:
        return
    path, value = data.draw(st.sampled_from(where)), data.draw(odd)

    read = reader(model)(encoded(mutated(shape, path, value)))

    right = reader(model)(encoded(shape))
    for name, field in model.model_fields.items():
        names = [name, field.alias, field.validation_alias]
        if path[0] not in names and not hasattr(field.validation_alias, "choices"):
            assert getattr(read, name) == getattr(right, name), name


@pytest.mark.parametrize("model", list(SHAPES), ids=lambda model: model.__name__)
@given(data=st.data())
def test_so_do_several(model: type[MailchimpModel], data: st.DataObject) -> None:
    shape = SHAPES[model]
    where = [name for name in shape if name not in keys(model)]
    if not where:
        return
    for name in data.draw(st.sets(st.sampled_from(where), min_size=1)):
        shape = mutated(shape, (name,), data.draw(odd))
    reader(model)(encoded(shape))


@pytest.mark.parametrize(
    ("model", "name"),
    [(model, name) for model in SHAPES for name in sorted(keys(model), key=str)],
    ids=lambda each: getattr(each, "__name__", each),
)
@pytest.mark.parametrize("value", [None, [], {}, "", GONE], ids=str)
def test_what_identifies_is_never_made_up(
    model: type[MailchimpModel], name: str, value: Any
) -> None:
    with pytest.raises(ValidationError):
        reader(model)(encoded(mutated(SHAPES[model], (name,), value)))


ROWS = [
    (model, name)
    for model in SHAPES
    for name, field in model.model_fields.items()
    if isinstance(field.get_default(call_default_factory=True, validated_data={}), Rows)
]


@pytest.mark.parametrize(("model", "name"), ROWS, ids=lambda each: getattr(each, "__name__", each))
@given(
    bad=st.lists(st.sampled_from([None, 7, "row", []]), min_size=1, max_size=4),
    at=st.integers(0, 4),
)
def test_a_row_that_nobody_can_read_is_left_out_and_counted(
    model: type[MailchimpModel], name: str, bad: list[Any], at: int
) -> None:
    shape = SHAPES[model]
    good = shape[name][0]
    rows = [good, good]
    rows[min(at, 2) : min(at, 2)] = bad

    read = getattr(reader(model)(encoded(shape | {name: rows})), name)

    assert len(read) == 2
    assert (read.unreadable, read.raw) == (len(bad), len(rows))
    assert read.told
    assert not read.complete


@pytest.mark.parametrize(("model", "name"), ROWS, ids=lambda each: getattr(each, "__name__", each))
@pytest.mark.parametrize("value", [None, {}, "", "text", 7, GONE], ids=str)
def test_an_answer_without_its_array_does_not_say_that_there_is_nothing(
    model: type[MailchimpModel], name: str, value: Any
) -> None:
    rows = getattr(reader(model)(encoded(mutated(SHAPES[model], (name,), value))), name)
    assert rows == ()
    assert not rows.told
    assert not rows.complete


class TestMembers:
    @pytest.mark.parametrize("name", ["email_address", "status"])
    @pytest.mark.parametrize("value", [None, [], {}, "", 7, GONE], ids=str)
    def test_one_without_address_or_status_is_nobody(self, name: str, value: Any) -> None:
        page = {"members": [MEMBER, mutated(MEMBER, (name,), value)], "total_items": 2}
        read = reader(MembersPage)(encoded(page))
        assert (len(read.members), read.members.unreadable) == (1, 1)
        assert not Member.model_validate(mutated(MEMBER, (name,), "")).identified

    def test_an_unknown_status_stays_what_it_is(self) -> None:
        page = {"members": [MEMBER | {"status": "snoozed"}]}
        assert reader(MembersPage)(encoded(page)).members[0].status == "snoozed"

    def test_what_can_be_read_of_it_is(self) -> None:
        odd_one = MEMBER | {
            "web_id": "77", "tags": [None, {"id": "x"}, {"id": "5"}], "interests": {"a": None, "b": True},
            "last_changed": "2021-10-21T15:41:36", "timestamp_opt": "0001-01-01T00:00:00+00:00",
        }  # fmt: skip
        (read,) = reader(MembersPage)(encoded({"members": [odd_one]})).members
        assert (read.web_id, [t.id for t in read.tags], read.interests) == (77, [5], {"b": True})
        assert read.last_changed is not None
        assert read.last_changed.isoformat() == "2021-10-21T15:41:36+00:00"
        assert read.timestamp_opt is None

    def test_how_many_were_left_out_is_logged_and_nothing_of_them(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        page = {"members": [MEMBER, MEMBER | {"status": None}]}
        with caplog.at_level(logging.WARNING):
            reader(MembersPage)(encoded(page))
        assert "1 of 2" in caplog.text
        assert "@" not in caplog.text


@pytest.mark.parametrize("place", ["new_members", "updated_members", "errors"])
@pytest.mark.parametrize("address", [None, 7, "", GONE], ids=str)
def test_a_row_of_a_bulk_answer_without_its_address_is_read_again(place: str, address: Any) -> None:
    shape = SHAPES[BatchResult]
    row = mutated(shape[place][0], ("email_address",), address)
    empty: dict[str, Any] = {"new_members": [], "updated_members": [], "errors": []}
    result = reader(BatchResult)(encoded(empty | {place: [row]}))
    (found,) = account_rows(["ada@acme.example"], result).rows
    assert found.outcome is RowOutcome.MISSING


class TestTransactionalArrays:
    @pytest.mark.parametrize("body", [b"[]", b"{}", b" { } "])
    def test_an_empty_object_is_an_empty_array(self, body: bytes) -> None:
        assert many(RecipientOutcome)(body) == ()

    def test_rows_that_nobody_can_read_are_left_out(self) -> None:
        read = many(RecipientOutcome)(encoded([None, SHAPES[RecipientOutcome], 7]))
        assert [each.email for each in read] == ["ada@acme.example"]
        assert read.unreadable == 2

    @pytest.mark.parametrize("body", [b"null", b"7", b'"text"', b"", b"<html>"])
    def test_what_is_no_array_is_unreadable(self, body: bytes) -> None:
        with pytest.raises(ValueError, match=r"."):
            many(RecipientOutcome)(body)
