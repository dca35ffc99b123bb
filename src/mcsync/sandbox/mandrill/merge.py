"""Merge tags in Mailchimp's and in Handlebars' language, and the editable regions of templates (MC 17.2, 17.3)."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

_REGION = re.compile(
    r'<(?P<tag>\w+)(?P<before>[^>]*?)\s+mc:edit="(?P<name>[^"]*)"(?P<after>[^>]*)>'
    r"(?P<body>.*?)</(?P=tag)>",
    re.DOTALL,
)
# The innermost condition first: one that holds no other.
_CONDITION = re.compile(
    r"\*\|IF(?P<no>NOT)?:(?P<name>\w+)\s*(?:(?P<op>!?=)\s*(?P<value>[^|]*?))?\|\*"
    r"(?P<yes>(?:(?!\*\|IF(?:NOT)?:).)*?)"
    r"(?:\*\|ELSE:\|\*(?P<other>(?:(?!\*\|IF(?:NOT)?:).)*?))?\*\|END:IF\|\*",
    re.DOTALL | re.IGNORECASE,
)
_TAG = re.compile(r"\*\|(\w+)\|\*")
_MUSTACHE = re.compile(r"\{\{(\{)?\s*([#/]?)\s*([^{}]*?)\s*\}?\}\}")


def fill_regions(code: str, content: Mapping[str, str]) -> str:
    """The template with its `mc:edit` regions filled; regions without content keep their own."""

    def filled(found: re.Match[str]) -> str:
        body = content.get(found["name"], found["body"])
        return f"<{found['tag']}{found['before']}{found['after']}>{body}</{found['tag']}>"

    return _REGION.sub(filled, code)


def merged(
    text: str, values: Mapping[str, Any], *, language: str, escape: bool, blank: bool
) -> str:
    """The text with its tags replaced; `blank` makes unknown tags of Mailchimp's language vanish."""
    if language == "handlebars":
        return _Handlebars(text, escape=escape).render(values)
    return _mailchimp({name.upper(): value for name, value in values.items()}, text, blank=blank)


def _mailchimp(values: Mapping[str, Any], text: str, *, blank: bool) -> str:
    def decided(found: re.Match[str]) -> str:
        value = values.get(found["name"].upper())
        holds = bool(value)
        if found["op"]:
            holds = (str(value) == found["value"]) == (found["op"] == "=")
        if found["no"]:
            holds = not holds
        return found["yes"] if holds else found["other"] or ""

    previous = ""
    while previous != text:
        previous, text = text, _CONDITION.sub(decided, text)

    def replaced(found: re.Match[str]) -> str:
        value = values.get(found[1].upper())
        return str(value) if value is not None else "" if blank else found[0]

    return _TAG.sub(replaced, text)


class _Handlebars:
    """`{{a.b}}`, `{{{raw}}}`, `#if`, `#unless`, `#each`, `else`: what mails are made of."""

    def __init__(self, text: str, *, escape: bool) -> None:
        self._text = text
        self._escape = escape
        self._tokens = list(_MUSTACHE.finditer(text))

    def render(self, values: Mapping[str, Any]) -> str:
        return self._block(0, len(self._tokens), 0, len(self._text), [values])

    def _block(self, first: int, last: int, start: int, end: int, scope: list[Any]) -> str:
        """The text from `start` to `end`, which holds the tokens from `first` to `last`."""
        out: list[str] = []
        place, index = start, first
        while index < last:
            token = self._tokens[index]
            out.append(self._text[place : token.start()])
            place = token.end()
            if token[2] == "#":
                close, other = self._ends(index, last)
                out.append(self._section(index, close, other, scope))
                index = close
                place = self._tokens[close].end() if close < last else end
            elif token[2] != "/" and token[3] != "else":
                out.append(self._value(token, scope))
            index += 1
        out.append(self._text[place:end])
        return "".join(out)

    def _ends(self, index: int, last: int) -> tuple[int, int | None]:
        """Where the section that opens here closes, and where its `else` is."""
        depth, other = 0, None
        for place in range(index + 1, last):
            token = self._tokens[place]
            if token[2] == "#":
                depth += 1
            elif token[2] == "/":
                if not depth:
                    return place, other
                depth -= 1
            elif token[3] == "else" and not depth:
                other = place
        return last, other

    def _section(self, index: int, close: int, other: int | None, scope: list[Any]) -> str:
        kind, _, name = self._tokens[index][3].partition(" ")
        value = _look(name.strip(), scope)
        stop = other if other is not None else close
        body = (index + 1, stop, self._tokens[index].end(), self._start(stop))
        if kind == "each" and value:
            rows = value.values() if isinstance(value, dict) else value
            return "".join(self._block(*body, [*scope, row]) for row in rows)
        holds = bool(value) and kind in ("if", "each", "with")
        if kind == "unless":
            holds = not value
        if holds:
            return self._block(*body, [*scope, value] if kind == "with" else scope)
        if other is None:
            return ""
        return self._block(other + 1, close, self._tokens[other].end(), self._start(close), scope)

    def _start(self, index: int) -> int:
        return self._tokens[index].start() if index < len(self._tokens) else len(self._text)

    def _value(self, token: re.Match[str], scope: list[Any]) -> str:
        value = _look(token[3], scope)
        text = "" if value is None else str(value)
        return text if token[1] or not self._escape else html.escape(text)


def _look(path: str, scope: list[Any]) -> Any:
    """The value of a dotted path, from the innermost scope that has its first part."""
    if path in ("this", "."):
        return scope[-1]
    first, *rest = path.removeprefix("this.").split(".")
    value: Any = None
    for level in reversed(scope):
        if isinstance(level, Mapping) and first in level:
            value = level[first]
            break
    for part in rest:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
