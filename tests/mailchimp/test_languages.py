"""Language tags as people and browsers write them, and what Mailchimp is sent."""

from __future__ import annotations

import pytest

from mcsync.mailchimp.languages import LANGUAGES, language_code


@pytest.mark.parametrize("code", sorted(LANGUAGES))
def test_mailchimps_own_codes_stay_in_any_spelling(code: str) -> None:
    for spelling in (code, code.lower(), code.upper(), code.replace("_", "-"), f" {code} "):
        assert language_code(spelling) == code


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        ("de-DE", "de"), ("de-AT", "de"), ("de_CH.UTF-8", "de"), ("DE", "de"), ("en-GB", "en"),
        ("en-US", "en"), ("pt-BR", "pt"), ("pt_PT", "pt_PT"), ("pt-pt", "pt_PT"), ("es-MX", "es"),
        ("es-419", "es"), ("es-ES", "es_ES"), ("ca-ES@valencia", "ca"), ("fr-CA", "fr_CA"),
        ("fr-BE", "fr"), ("zh-Hant-TW", "zh"), ("zh-cmn-Hans-CN", "zh"), ("sr-Latn-RS", "sr"),
        ("nb-NO", "no"), ("nn", "no"), ("iw", "he"), ("in", "id"), ("de-DE-1996", "de"),
        ("en-US-u-ca-gregory", "en"), ("deu", "de"),
    ],
)  # fmt: skip
def test_a_language_tag_becomes_a_code(tag: str, code: str) -> None:
    assert language_code(tag) == code


@pytest.mark.parametrize(
    "tag", ["", "x", "eu", "gsw-CH", "German", "de,en;q=0.5", "de DE", "12", "-de", "de-", "de--DE"]
)
def test_what_mailchimp_does_not_have_is_none(tag: str) -> None:
    assert language_code(tag) is None
