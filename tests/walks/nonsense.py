"""Wrong requests, made from the schemas of the description: every field, every kind of wrongness."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from tests.walks.description import JSON, Operation, resolved, wrong_with
from tests.walks.stage import Call

CANARY = "qz7canary@leak.example"
"""Part of what is submitted wrongly; no answer may repeat it."""
HUGE = CANARY * 400
NUL = f"{CANARY}\0"
SURROGATE = f"{CANARY}\ud800"

_DEEP: Any = []
for _ in range(150):
    _DEEP = [_DEEP, CANARY]

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 10**30, "", CANARY, HUGE, NUL, SURROGATE, [], [CANARY], {}, {CANARY: CANARY},
    _DEEP, "00000000-0000-0000-0000-000000000000", "9999-12-31T23:59:59-23:59", "2026-02-30T00:00:00Z",
)  # fmt: skip

_RAW_QUERY: tuple[str, ...] = (
    "", quote(CANARY), quote(CANARY * 100), "%00", f"{quote(CANARY)}%00", "%ff%fe", "%ed%a0%80", "%", "-1",
    "0", "201", "1.5", "1e3", "9" * 400, "null", "%7B%7D", "00000000-0000-0000-0000-00000000000g",
    "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00%2B23:59", "2026-11-23T00:00:00", "%F0%9F%92%A9",
    "'%20or%20''='",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A request. ``wrong``: the description forbids it, so that it must be refused."""

    what: str
    query: str = ""
    content: bytes | None = None
    content_type: str = JSON
    wrong: bool = True


def cases(op: Operation, call: Call) -> Iterator[Case]:
    """All wrong requests of an operation; ``call`` is a right one."""
    yield from _queries(op, call)
    if op.body_schema is not None:
        yield from _bodies(op, call)


# --------------------------------------------------------------------------------- the query


def _query(pairs: Mapping[str, Any]) -> str:
    return "&".join(f"{name}={quote(str(value))}" for name, value in pairs.items())


def _queries(op: Operation, call: Call) -> Iterator[Case]:
    body = _encoded(call.body) if call.body is not None else call.content
    kind = call.content_type or JSON
    for parameter in op.parameters("query"):
        name, schema = parameter["name"], parameter["schema"]
        others = {key: value for key, value in call.query.items() if key != name}
        start = _query(others) + ("&" if others else "")
        if parameter.get("required"):
            yield Case(f"without ?{name}", _query(others), body, kind)
        for raw in _RAW_QUERY:
            yield Case(
                f"?{name}={raw[:40]}", f"{start}{name}={raw}", body, kind,
                wrong=not _fits_query(schema, raw),
            )  # fmt: skip
        twice = f"{start}{name}={quote(CANARY)}&{name}={quote(str(call.query.get(name, 'x')))}"
        yield Case(f"?{name} twice", twice, body, kind, wrong=False)
        yield Case(
            f"?{name}[]", f"{start}{name}[]=1", body, kind, wrong=parameter.get("required", False)
        )
    yield (
        Case("an unknown parameter", _query({**call.query, CANARY: CANARY}), None, wrong=False)
        if (not op.is_post)
        else Case("no query", "", b"", wrong=False)
    )


def _fits_query(schema: Mapping[str, Any], raw: str) -> bool:
    """Whether a raw value might be right: wherever the schema only says ``string`` nearly all is."""
    if "%ff" in raw or "%ed" in raw or "%00" in raw:
        return True  # decoded leniently, or of no meaning in most places
    if any(one.get("type") == "string" for one in [schema, *schema.get("anyOf", ())]):
        plain = [one for one in [schema, *schema.get("anyOf", ())] if one.get("type") == "string"]
        if all(set(one) & {"format", "enum", "pattern"} for one in plain):
            return not wrong_with(schema, unquote(raw))
        return True
    if "$ref" in str(schema):
        return False
    return raw in {"0", "1e3", "null"} if "boolean" in str(schema) else False


# --------------------------------------------------------------------------------- the body


def _encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def _bodies(op: Operation, call: Call) -> Iterator[Case]:
    schema, right = op.body_schema, call.body
    assert schema is not None
    for what, content in _broken(right):
        yield Case(what, content=content)
    for kind in (
        "text/plain",
        "application/xml",
        "multipart/form-data",
        "application/x-www-form-urlencoded",
        ";;",
    ):
        yield Case(f"sent as {kind}", content=_encoded(right), content_type=kind)
    for where, mutated in _mutations(schema, right):
        wrong = _is_wrong(schema, mutated) and not _is_told_in_the_answer(op, where, mutated)
        yield Case(where, content=_encoded(mutated), wrong=wrong)


def _is_told_in_the_answer(op: Operation, where: str, body: Any) -> bool:
    """What is wrong in one of several contacts does not refuse the others: the answer reports it."""
    if not op.path.endswith("/contacts/upsert") or not where.startswith("/contacts/"):
        return False
    return all(isinstance(contact, dict) for contact in body["contacts"])


def _is_wrong(schema: Mapping[str, Any], body: Any) -> bool:
    text = json.dumps(body)
    return "\\u0000" in text or "\\ud800" in text or bool(wrong_with(schema, body))


def _broken(right: Any) -> Iterator[tuple[str, bytes]]:
    """Bodies that are no JSON object in UTF-8, or far too much of one."""
    text = _encoded(right)
    name = json.dumps(next(iter(right)))
    yield "no body", b""
    yield "not JSON", CANARY.encode()
    yield "cut off", text[:-1]
    yield "followed by more", text + b" {}"
    yield "a list around it", b"[" + text + b"]"
    no_objects: tuple[Any, ...] = (None, True, 1, CANARY, [], [[]])
    for value in no_objects:
        yield f"just {value!r}", _encoded(value)
    yield "invalid UTF-8", b'{"\xff\xfe": "' + CANARY.encode() + b'\xc3\x28"}'
    yield "invalid UTF-8 in a value", text[:-1] + b', "x": "\xed\xa0\x80"}'
    yield "single quotes", text.replace(b'"', b"'")
    yield "nested lists", b"[" * 30_000 + b"]" * 30_000
    yield "nested objects", b'{"a":' * 10_000 + b"1" + b"}" * 10_000
    yield "nested lists never closed", b"[" * 60_000
    for number in (b"NaN", b"-Infinity", b"1e999", b"9" * 5_000):
        yield f"{number[:9]!r} somewhere", b"{" + name.encode() + b": " + number + b"}"
    yield "over the limit", b'{"a": "' + b"x" * 70_000 + b'"}'
    yield "over the limit and no JSON", CANARY.encode() * 4_000


def _mutations(schema: Mapping[str, Any], right: Any) -> Iterator[tuple[str, Any]]:
    """The right body with one thing changed, for each place of the schema and each value."""
    for path, inside in _places(schema, right):
        where = "/" + "/".join(map(str, path))
        for value in VALUES:
            yield f"{where} = {value!r:.40}", _with(right, path, value)
        if "$ref" in inside or "properties" in inside:
            properties = resolved(inside)
            spoilt = dict(_at(right, path) or {})
            yield f"{where} with an unknown key", _with(right, path, {**spoilt, CANARY: 1})
            for name in properties.get("required", ()):
                less = {key: value for key, value in spoilt.items() if key != name}
                yield f"{where} without {name}", _with(right, path, less)


def _places(
    schema: Mapping[str, Any], right: Any, path: tuple[Any, ...] = ()
) -> Iterator[tuple[tuple[Any, ...], Mapping[str, Any]]]:
    """Path and schema of each place in a body, as deep as the schema goes."""
    options = schema.get("anyOf", [schema])
    for option in options:
        here = resolved(option)
        if option is options[0]:
            yield path, option
        for name, inside in here.get("properties", {}).items():
            yield from _places(inside, right, (*path, name))
        if "items" in here and len(path) < 6:
            yield from _places(here["items"], right, (*path, 0))


def _at(body: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        try:
            body = body[step]
        except (KeyError, IndexError, TypeError):
            return None
    return body


def _with(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of the body with another value at a place, which is made where it is missing."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(step, int):
        copied = list(body) if isinstance(body, list) and body else [None]
        copied[0] = _with(copied[0], rest, value)
        return copied
    made = copy.copy(body) if isinstance(body, dict) else {}
    made[step] = _with(made.get(step), rest, value)
    return made
