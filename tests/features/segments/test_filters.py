"""The condition that a segment's filters make, and what it selects in a real PostgreSQL."""

from __future__ import annotations

import pytest

from mcsync.features.segments.filters import compile_filters


class TestCompileFilters:
    def test_mixed_without_filters_is_no_condition(self) -> None:
        compiled = compile_filters("mixed", {}, prefix="s0")
        assert compiled.sql == "true"
        assert compiled.params == {}

    def test_the_type_is_a_condition_of_its_own(self) -> None:
        compiled = compile_filters("vendor", {}, prefix="s0")
        assert compiled.sql == "(c.entity_type = cast(:s0_type as text))"
        assert compiled.params == {"s0_type": "vendor"}

    def test_empty_lists_and_maps_are_no_condition(self) -> None:
        filters = {"department": [], "location": [], "attributes": {"team": []}}
        assert compile_filters("mixed", filters, prefix="s0").sql == "true"
        assert compile_filters("mixed", {"attributes": {}}, prefix="s0").sql == "true"

    def test_every_field_gives_one_condition_and_its_own_parameter(self) -> None:
        filters = {
            "department": ["HR", "Legal"],
            "location": ["Lisbon"],
            "employmentType": ["full_time"],
            "employmentStatus": ["active"],
            "attributes": {"team": ["red"], "floor": ["3"]},
        }
        compiled = compile_filters("employee", filters, prefix="s7", alias="k")
        assert compiled.sql.count("= any(") == 6
        assert "k.employment_type" in compiled.sql
        assert compiled.params == {
            "s7_type": "employee",
            "s7_department": ["HR", "Legal"],
            "s7_location": ["Lisbon"],
            "s7_employment_type": ["full_time"],
            "s7_employment_status": ["active"],
            "s7_key0": "floor",
            "s7_attr0": ["3"],
            "s7_key1": "team",
            "s7_attr1": ["red"],
        }

    def test_submitted_text_never_becomes_sql(self) -> None:
        hostile = "x' or true; drop table contacts --"
        filters = {"department": [hostile], "attributes": {hostile: [hostile]}}
        assert "drop" not in compile_filters("mixed", filters, prefix="s0").sql

    def test_two_segments_share_a_statement_without_sharing_parameters(self) -> None:
        one = compile_filters("employee", {"department": ["HR"]}, prefix="s0")
        two = compile_filters("employee", {"department": ["IT"]}, prefix="s1")
        assert not set(one.params) & set(two.params)

    @pytest.mark.parametrize("filters", [{"departement": ["HR"]}, {"email": ["a"]}])
    def test_an_unknown_filter_is_refused_instead_of_left_out(
        self, filters: dict[str, list[str]]
    ) -> None:
        with pytest.raises(ValueError, match="unknown filters"):
            compile_filters("mixed", filters, prefix="s0")

    def test_an_unknown_type_is_refused(self) -> None:
        with pytest.raises(ValueError, match="unknown segment type"):
            compile_filters("contractor", {}, prefix="s0")

    @pytest.mark.parametrize(("prefix", "alias"), [("s-0", "c"), ("", "c"), ("s0", "c; --")])
    def test_prefix_and_alias_must_be_plain_names(self, prefix: str, alias: str) -> None:
        with pytest.raises(ValueError, match="plain lower-case"):
            compile_filters("mixed", {}, prefix=prefix, alias=alias)
