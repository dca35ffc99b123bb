"""Words of consent, and times that may be several moments."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsync.core.errors import BadRequestError
from mcsync.features.contacts.intake.times import Moments, zone_of
from mcsync.features.contacts.intake.words import (
    CLEAR_WITHDRAWALS,
    OPT_OUT_COLUMNS,
    WITHDRAWALS,
    YES,
    clearly_withdraws,
    opt_status_of,
    says_yes,
)

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def read(text: str, zone: str | None = None) -> str | None:
    return Moments(lambda: NOW, zone_of(zone)).earliest(text)


class TestWords:
    @pytest.mark.parametrize(
        "word",
        ["opted_out", "Opted-Out", "OPT OUT", "optout", "unsubscribed", "Unsubscribe", "withdrawn", "revoked",
         "declined", "do not contact", "Do-Not-Email", "don't contact", "false", "FALSE", "False", "FALSCH",
         "no", "N", "0", "off", "nein", "Unsubscribed by phone", "opted out 2026-05-01", "opted_out\0",
         " unsub. ", "\uff4f\uff50\uff54\uff0d\uff4f\uff55\uff54", "ABGEMELDET"],
    )  # fmt: skip
    def test_withdrawals(self, word: str) -> None:
        assert opt_status_of(word) == "opted_out"

    @pytest.mark.parametrize("word", ["opted_in", "Opted-In", "OPT IN", "optin", " opt_in "])
    def test_opt_ins(self, word: str) -> None:
        assert opt_status_of(word) == "opted_in"

    @pytest.mark.parametrize(
        "word",
        ["true", "TRUE", "yes", "1", "y", "on", "subscribed", "active", "ja", "opted_in?", "not opted in",
         "opted in?", "(opted in)", "optedinn", "pending", "cleaned", "-", "null", "n/a", "opted_in opted_out"],
    )  # fmt: skip
    def test_anything_else_is_not_understood(self, word: str) -> None:
        assert opt_status_of(word) is None

    @pytest.mark.parametrize(
        "word", ["false", "no", "0", "n", "off", "active", "", "out", "removed"]
    )
    def test_a_word_that_may_mean_other_things_is_clear_in_its_own_column_only(
        self, word: str
    ) -> None:
        assert not clearly_withdraws(word)

    def test_the_words_in_the_docs_are_those_of_the_code(self) -> None:
        table = (Path(__file__).parents[3] / "docs/consent-in-files.md").read_text("utf-8")
        clear, others = (
            next(line for line in table.splitlines() if line.endswith(ending))
            for ending in ("the **clear** words |", "in the column `optStatus` |")
        )
        documented = {
            kind: {"".join(word.replace("'", "").replace("-", " ").replace("_", " ").split())
                   for word in re.findall(r"`([^`]+)`", line.split("|")[1])}
            for kind, line in (("clear", clear), ("others", others))
        }  # fmt: skip
        assert all(map(clearly_withdraws, documented["clear"]))
        assert {opt_status_of(word) for word in documented["others"]} == {"opted_out"}
        unaccented = {"desabonne", "desinscrit", "nao", "00"}
        assert CLEAR_WITHDRAWALS - unaccented == documented["clear"]
        assert WITHDRAWALS - CLEAR_WITHDRAWALS - unaccented == documented["others"]

    def test_the_columns_in_the_docs_are_those_of_the_code(self) -> None:
        page = (Path(__file__).parents[3] / "docs/consent-in-files.md").read_text("utf-8")
        names, values = (
            {word.replace(" ", "") for word in re.findall(r"`([^`]+)`", page.partition(start)[2].partition(end)[0])}
            for start, end in (("- its name is one of", ";\n"), ("- its value is one of", "JSON"))
        )  # fmt: skip
        assert names == OPT_OUT_COLUMNS
        assert values == YES
        assert all(map(says_yes, [*values, True, 1, 1.0, "unsubscribed", "2026-03-01", "1/3/2026"]))
        assert not any(
            map(says_yes, [*WITHDRAWALS - CLEAR_WITHDRAWALS, False, 0, None, [], "", "maybe", "12"])
        )

    @given(st.text(max_size=30))
    def test_no_other_word_opts_anybody_in(self, word: str) -> None:
        plain = "".join(letter for letter in word.lower() if letter not in " _-\t\n\r\f\v")
        assert opt_status_of(word) != "opted_in" or "".join(plain.split()) in ("optedin", "optin")


class TestTimes:
    @pytest.mark.parametrize(
        ("text", "zone", "moment"),
        [
            ("2026-06-01T13:40:00Z", None, "2026-06-01T13:40:00+00:00"),
            ("2026-06-01 13:40:00+02", None, "2026-06-01T11:40:00+00:00"),
            ("2026-06-01 13:40:00 +0200", "Asia/Tokyo", "2026-06-01T11:40:00+00:00"),
            ("2026-06-01 13:40:00 UTC", None, "2026-06-01T13:40:00+00:00"),
            ("2026-06-01T13:40:00.5Z", None, "2026-06-01T13:40:00.500000+00:00"),
            # no zone: that in which it comes first
            ("2026-06-01 13:40:00", None, "2026-05-31T23:40:00+00:00"),
            ("2026-06-01", None, "2026-05-31T10:00:00+00:00"),
            ("20260601", None, "2026-05-31T10:00:00+00:00"),
            ("2026-06-01 13:40:00", "Europe/Berlin", "2026-06-01T11:40:00+00:00"),
            ("2026-06-01", "Europe/Berlin", "2026-05-31T22:00:00+00:00"),
            # the hour that comes twice, and the hour that does not come
            ("2026-10-25 02:30", "Europe/Berlin", "2026-10-25T00:30:00+00:00"),
            ("2026-03-29 02:30", "Europe/Berlin", "2026-03-29T00:30:00+00:00"),
            # as spreadsheets spell them
            ("01.06.2026 13:40", "UTC", "2026-06-01T13:40:00+00:00"),
            ("1.6.2026", "UTC", "2026-06-01T00:00:00+00:00"),
            ("31/05/2026 1:40 PM", "UTC", "2026-05-31T13:40:00+00:00"),
            ("5/31/2026 12:05:09 am", "UTC", "2026-05-31T00:05:09+00:00"),
            ("6/6/2026", "UTC", "2026-06-06T00:00:00+00:00"),
        ],
    )  # fmt: skip
    def test_the_earliest_moment_that_it_can_be(
        self, text: str, zone: str | None, moment: str
    ) -> None:
        assert read(text, zone) == moment

    @pytest.mark.parametrize(
        "text",
        ["01/06/2026 13:40", "6-1-2026", "yesterday", "31.02.2026", "2026-13-01", "13:40", "46174",
         "2026-06-01 25:00", "0001-01-01", "9999-12-31T23:59:59-12:00", "13/13/2026", "1.6.26",
         "2026-11-25T12:00:01Z"],
    )  # fmt: skip
    def test_what_cannot_be_told_is_reported(self, text: str) -> None:
        assert read(text) is None

    @pytest.mark.parametrize(
        "name", ["", "Berlin", "CEST", "Europe/Atlantis", "../etc/passwd", "\0", "+02:00"]
    )
    def test_an_unknown_zone_is_refused(self, name: str) -> None:
        with pytest.raises(BadRequestError) as error:
            zone_of(name)
        assert error.value.code == "unknown_time_zone"

    @given(
        st.datetimes(datetime(2000, 1, 1), datetime(2026, 1, 1)),  # noqa: DTZ001 - that is the point
        st.sampled_from([
            "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Kiritimati", "Etc/GMT+12",
            "Australia/Lord_Howe",
        ]),
    )  # fmt: skip
    def test_no_reading_is_earlier(self, local: datetime, zone: str) -> None:
        known, unknown = read(local.isoformat(), zone), read(local.isoformat())
        assert known is not None
        assert unknown is not None
        for fold in (0, 1):
            real = local.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)
            assert datetime.fromisoformat(unknown) <= datetime.fromisoformat(known) <= real
