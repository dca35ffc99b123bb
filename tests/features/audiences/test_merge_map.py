"""The merge-field map: what is proposed, what is refused, what is in force."""

from __future__ import annotations

import pytest

from mcsync.features.audiences.merge_map import (
    Field,
    checked_map,
    is_source,
    map_in_force,
    proposed_map,
    unfed_required,
)


def text(tag: str, name: str = "", *, required: bool = False) -> Field:
    return Field(tag=tag, name=name, type="text", required=required)


class TestProposedMap:
    def test_a_new_audience_gets_first_and_last_name(self) -> None:
        fields = [
            text("FNAME", "First Name"),
            text("LNAME", "Last Name"),
            Field("ADDRESS", "Address", "address"),
            Field("PHONE", "Phone Number", "phone"),
            Field("BIRTHDAY", "Birthday", "birthday"),
        ]
        assert proposed_map(fields) == {"FNAME": "firstName", "LNAME": "lastName"}

    @pytest.mark.parametrize(
        ("tag", "name", "source"),
        [
            ("MMERGE5", "Department", "department"),
            ("DEPT", "", "department"),
            ("DEPARTMENT", "Abteilung", "department"),
            ("MMERGE6", "Office location", "location"),
            ("OFFICE", "", "location"),
            ("LOCATION", "", "location"),
            ("JOBTYPE", "", "employmentType"),
            ("MMERGE7", "Employment-Type", "employmentType"),
            ("EMPSTATUS", "", "employmentStatus"),
            ("MMERGE8", "Employment status", "employmentStatus"),
            ("ENTITYID", "", "entityId"),
            ("ENTITYTYPE", "", "entityType"),
            ("MMERGE1", "given name", "firstName"),
            ("SURNAME", "", "lastName"),
        ],
    )
    def test_common_tags_and_names_are_known(self, tag: str, name: str, source: str) -> None:
        assert proposed_map([text(tag, name)]) == {tag: source}

    @pytest.mark.parametrize("tag", ["CITY", "STATUS", "COMPANY", "NAME", "TYPE", "ID", "MMERGE9"])
    def test_what_could_mean_several_things_is_left_alone(self, tag: str) -> None:
        assert proposed_map([text(tag, tag.title())]) == {}

    def test_a_tag_is_believed_before_a_name_and_a_source_feeds_one_field(self) -> None:
        fields = [text("MMERGE5", "Department"), text("DEPT", "Dept (payroll)")]
        assert proposed_map(fields) == {"DEPT": "department"}

    def test_a_field_whose_tag_and_name_disagree_follows_its_tag(self) -> None:
        assert proposed_map([text("DEPT", "Location")]) == {"DEPT": "department"}

    def test_only_text_fields_are_fed_by_a_proposal(self) -> None:
        field = Field("DEPT", "Department", "dropdown", choices=("HR", "Legal"))
        assert proposed_map([field]) == {}


class TestMapInForce:
    def test_the_stored_map_wins_even_when_it_is_empty(self) -> None:
        assert map_in_force({}, [text("FNAME")], known=True) == {}

    def test_tags_gone_at_mailchimp_are_left_out(self) -> None:
        stored = {"FNAME": "firstName", "GONE": "department"}
        assert map_in_force(stored, [text("FNAME")], known=True) == {"FNAME": "firstName"}

    def test_before_the_fields_were_read_no_tag_is_doubted(self) -> None:
        assert map_in_force({"FNAME": "firstName"}, [], known=False) == {"FNAME": "firstName"}

    def test_without_a_stored_map_the_proposal_is_in_force(self) -> None:
        assert map_in_force(None, [text("LNAME")], known=True) == {"LNAME": "lastName"}


class TestUnfedRequired:
    def test_names_required_fields_that_nothing_feeds(self) -> None:
        fields = [text("FNAME", required=True), text("BADGE", required=True), text("NOTE")]
        assert unfed_required(fields, {"FNAME": "firstName"}) == ["BADGE"]


class TestCheckedMap:
    def test_tags_come_out_spelled_as_mailchimp_spells_them(self) -> None:
        assert checked_map({"fname": "firstName"}, [text("FNAME")]) == ({"FNAME": "firstName"}, [])

    @pytest.mark.parametrize(
        ("tag", "source", "code"),
        [
            ("NOPE", "firstName", "unknown_tag"),
            ("EMAIL", "firstName", "unknown_tag"),
            ("FNAME", "first_name", "unknown_source"),
            ("FNAME", "attributes.", "unknown_source"),
            ("FNAME", "attributes", "unknown_source"),
            ("FNAME", "email", "unknown_source"),
            ("NUM", "department", "incompatible_type"),
            ("ADR", "attributes.address", "incompatible_type"),
            ("KIND", "entityType", "incompatible_type"),
        ],
    )
    def test_each_bad_entry_is_named_with_its_reason(
        self, tag: str, source: str, code: str
    ) -> None:
        fields = [
            text("FNAME"),
            Field("NUM", "Number", "number"),
            Field("ADR", "Address", "address"),
            Field("KIND", "Kind", "dropdown", choices=("employee",)),
        ]
        checked, problems = checked_map({tag: source}, fields)
        assert checked == {}
        assert [(problem.tag, problem.code) for problem in problems] == [(tag, code)]

    def test_one_tag_in_two_spellings_is_refused(self) -> None:
        _, problems = checked_map({"FNAME": "firstName", "fname": "lastName"}, [text("FNAME")])
        assert [problem.code for problem in problems] == ["duplicate_tag"]

    def test_attributes_may_feed_any_type_but_address(self) -> None:
        fields = [Field("HIRED", "Hired", "date"), Field("NUM", "Number", "number")]
        wanted = {"HIRED": "attributes.hiredOn", "NUM": "entityId"}
        assert checked_map(wanted, fields) == (wanted, [])


class TestSources:
    @pytest.mark.parametrize("source", ["firstName", "entityId", "attributes.costCentre"])
    def test_known(self, source: str) -> None:
        assert is_source(source)

    def test_an_attribute_name_has_a_length(self) -> None:
        assert not is_source("attributes." + "x" * 129)


def test_the_mirror_keeps_a_field_as_json_and_reads_it_back() -> None:
    field = Field("KIND", "Kind", "dropdown", required=True, choices=("a", "b"), merge_id=4)
    assert Field.stored([field.as_json()]) == (field,)
