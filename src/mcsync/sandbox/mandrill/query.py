"""Searching: the little of Lucene's syntax that finds mails (MC 17.2).

`field:value`, `field:"a phrase"`, bare words over all fields, `*` and `?` within a word, AND, OR and NOT. Metadata is
searched as `u_<name>`, if it is indexed. Words next to each other are alternatives, as in Lucene.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable

from .model import Mail

_TERM = re.compile(r'(?:(?P<field>[\w.-]+):)?(?:"(?P<phrase>(?:[^"\\]|\\.)*)"|(?P<word>\S+))')

Test = Callable[[Mail], bool]


def parse(text: str, indexed: Callable[[str], bool]) -> Test:
    """What the query finds; `indexed` tells which metadata can be searched for."""
    groups: list[list[Test]] = []
    join = negate = False
    for found in _TERM.finditer(text):
        word = found["word"]
        if found["field"] is None and word in ("AND", "OR", "NOT"):
            join, negate = join or word == "AND", negate or word == "NOT"
            continue
        test = _term(found, indexed)
        chosen = _negated(test) if negate else test
        if join and groups:
            groups[-1].append(chosen)
        else:
            groups.append([chosen])
        join = negate = False
    if not groups:
        return lambda _: True
    return lambda mail: any(all(test(mail) for test in group) for group in groups)


def _negated(test: Test) -> Test:
    return lambda mail: not test(mail)


def _term(found: re.Match[str], indexed: Callable[[str], bool]) -> Test:
    field, phrase = found["field"], found["phrase"]
    if phrase is not None:
        wanted = re.sub(r"\\(.)", r"\1", phrase).lower()
        return lambda mail: any(wanted in text for text in _texts(mail, field, indexed))
    pattern = found["word"].lower()
    if field is None and pattern == "*":
        return lambda _: True
    return lambda mail: any(
        fnmatch.fnmatchcase(word, pattern)
        for text in _texts(mail, field, indexed)
        for word in (text, *text.split())
    )


def _texts(mail: Mail, field: str | None, indexed: Callable[[str], bool]) -> list[str]:
    """What of a mail is looked at, in lower case."""
    fields = {
        "state": [mail.state],
        "subject": [mail.subject],
        "sender": [mail.from_email],
        "email": [mail.email],
        "full_email": [mail.email],
        "tags": mail.tags,
        "template": [mail.template or ""],
    }
    fields |= {f"u_{name}": [str(value)] for name, value in mail.metadata.items() if indexed(name)}
    if field is None:
        return [text.lower() for texts in fields.values() for text in texts]
    return [text.lower() for text in fields.get(field, ())]
