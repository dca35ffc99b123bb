"""Both merge languages and the regions of templates, without a server."""

from __future__ import annotations

from typing import Any

import pytest

from mcsync.sandbox.mandrill.merge import fill_regions, merged

PEOPLE = {"people": [{"name": "A", "vip": True}, {"name": "B"}], "title": "<T>"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Hi *|NAME|*, *|name|*", "Hi Ann, Ann"),
        ("*|UNKNOWN|*", "*|UNKNOWN|*"),
        ("*|IF:NAME|*yes*|ELSE:|*no*|END:IF|*", "yes"),
        ("*|IF:NONE|*yes*|ELSE:|*no*|END:IF|*", "no"),
        ("*|IFNOT:NONE|*yes*|END:IF|*", "yes"),
        ("*|IF:NAME=Ann|*a*|END:IF|**|IF:NAME!=Ann|*b*|END:IF|*", "a"),
        ("*|IF:NAME|*1*|IF:NONE|*2*|ELSE:|*3*|END:IF|*4*|END:IF|*", "134"),
    ],
)
def test_mailchimps_language(text: str, wanted: str) -> None:
    values = {"name": "Ann", "none": ""}
    assert merged(text, values, language="mailchimp", escape=True, blank=False) == wanted


def test_unknown_tags_may_vanish() -> None:
    assert merged("a*|X|*b", {}, language="mailchimp", escape=True, blank=True) == "ab"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("{{title}} {{{title}}}", "&lt;T&gt; <T>"),
        ("{{missing}}!", "!"),
        ("{{#each people}}{{name}}{{#if vip}}*{{/if}} {{/each}}", "A* B "),
        ("{{#if people}}y{{else}}n{{/if}}{{#if none}}y{{else}}n{{/if}}", "yn"),
        ("{{#unless none}}y{{/unless}}{{#unless title}}y{{else}}n{{/unless}}", "yn"),
        ("{{#each none}}x{{else}}empty{{/each}}", "empty"),
        ("{{#each people}}{{title}}{{this.name}}{{/each}}", "&lt;T&gt;A&lt;T&gt;B"),
        ("{{#with deep}}{{a.b}}{{/with}}{{deep.a.b}}", "77"),
        ("{{#if title}}open", "open"),
        ("*|TITLE|*", "*|TITLE|*"),
    ],
)
def test_handlebars(text: str, wanted: str) -> None:
    values: dict[str, Any] = {**PEOPLE, "deep": {"a": {"b": 7}}}
    assert merged(text, values, language="handlebars", escape=True, blank=False) == wanted


def test_regions_keep_their_own_content_unless_given() -> None:
    code = '<div class="x" mc:edit="a"><p>old</p></div><td mc:edit="b">keep</td>'
    assert fill_regions(code, {"a": "new"}) == '<div class="x">new</div><td>keep</td>'
