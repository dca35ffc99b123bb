"""The description itself: complete, with names and examples that generated clients and people can use."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from mcsync.core.auth.scopes import Scope
from tests.walks.description import (
    JSON,
    PROBLEM,
    Operation,
    components,
    document,
    examples,
    operations,
    wrong_with,
)

_each = pytest.mark.parametrize("op", operations(), ids=str)
_SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_PLACEHOLDERS = re.compile(r"(?i)\b(string|foo|bar|baz|lorem|test|todo)\b")


def test_operation_ids_are_unique_and_say_where_they_belong() -> None:
    assert [
        name for name, count in Counter(op.id for op in operations()).items() if count > 1
    ] == []
    for op in operations():
        (tag,) = op.raw["tags"]
        procedure = op.path.rpartition("/")[2]
        snake = re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", procedure).lower()
        assert op.id == f"{tag}_{snake}"
        assert _SNAKE.fullmatch(op.id)
        assert op.path in {f"/mailchimp/{tag}/{procedure}", f"/{tag}/{procedure}"}
        assert op.method in {"get", "post"}


def test_tags_are_described_in_the_order_of_a_first_day() -> None:
    described = [tag["name"] for tag in document()["tags"]]
    assert described == list(dict.fromkeys(described))
    assert set(described) == {op.raw["tags"][0] for op in operations()}
    assert described.index("connection") < described.index("segments") < described.index("audit")
    assert all(len(tag["description"]) > 20 for tag in document()["tags"])


@_each
def test_an_operation_tells_what_it_does_and_who_may(op: Operation) -> None:
    assert 5 < len(op.raw["summary"]) < 60
    assert len(op.raw["description"]) > 30
    assert "``" not in op.raw["description"], "markdown, not reStructuredText"
    if op.raw["tags"] == ["health"]:
        assert not op.needs_token
    else:
        assert op.scope in set(Scope)
    for parameter in op.raw.get("parameters", ()):
        assert parameter["schema"]
    assert ("requestBody" in op.raw) <= op.is_post


@_each
def test_an_operation_describes_its_problems(op: Operation) -> None:
    statuses = set(op.raw["responses"])
    assert len([one for one in statuses if one.startswith("2")]) == 1
    wanted = {"500"} | ({"401", "403", "503"} if op.needs_token else set())
    if op.is_post and op.needs_token:
        wanted |= {"400", "409", "413"}
    assert wanted <= statuses
    for status in statuses:
        response = op.raw["responses"][status]
        assert response["description"]
        if status[0] in "45" and op.needs_token:
            (media,) = (response["content"][kind] for kind in [PROBLEM])
            (example,) = examples(media)
            assert wrong_with(media["schema"], example) == []
            assert example["status"] == int(status)


@_each
def test_a_request_has_an_example_that_validates(op: Operation) -> None:
    for kind, media in op.request.items():
        found = examples(media)
        assert found, f"{kind} has no example"
        for example in found:
            assert not _PLACEHOLDERS.search(str(example)), example
            if kind == JSON:
                assert wrong_with(media["schema"], example) == []


@_each
def test_an_answer_has_an_example_that_validates(op: Operation) -> None:
    ((_, response),) = [(s, r) for s, r in op.raw["responses"].items() if s.startswith("2")]
    for kind, media in response["content"].items():
        found = examples(media)
        assert found, f"{kind} has no example"
        for example in found:
            assert not _PLACEHOLDERS.search(str(example)), example
            assert example not in ({}, []), "an empty example explains nothing"
            if kind == JSON:
                assert wrong_with(media["schema"], example) == []


def test_answers_leave_nothing_out_and_requests_take_nothing_else() -> None:
    asked = {name for name, schema in components() if schema.get("additionalProperties") is False}
    for name, schema in components():
        if schema.get("type") != "object" or name in {"Problem", "FieldProblem", "UpstreamProblem"}:
            continue
        for prop in schema["properties"]:
            assert re.fullmatch(r"[a-z][A-Za-z0-9]*", prop), f"{name}.{prop} is not camelCase"
        if name not in asked:
            missing = set(schema["properties"]) - set(schema.get("required", ()))
            assert not missing, f"{name} may leave out {missing}"
    bodies = {
        op.body_schema["$ref"].rpartition("/")[2]
        for op in operations()
        if op.body_schema is not None
    }
    assert bodies <= asked


def test_every_example_of_a_component_validates() -> None:
    for name, schema in components():
        for example in examples({"schema": {"$ref": f"#/components/schemas/{name}"}}):
            assert wrong_with(schema, example) == [], name


@_each
def test_mutations_take_an_idempotency_key_and_queries_do_not(op: Operation) -> None:
    names = {parameter["name"] for parameter in op.parameters("header")}
    assert ("Idempotency-Key" in names) == op.is_post
