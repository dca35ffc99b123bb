"""Examples in the OpenAPI description: one for each body, whole as it would be sent.

FastAPI strips every ``null`` out of the description, so that examples lose fields that are always
answered; and a page or an optional answer has no example of its own. Both are made good here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

_COMPONENT: Final = "#/components/schemas/"
_JSON: Final = "application/json"
_NOTHING: Final = object()


def complete_examples(document: dict[str, Any]) -> None:
    """Restores the nulls in all examples and gives each JSON body of a success or request its own."""
    components = document["components"]["schemas"]
    for schema in components.values():
        if "examples" in schema:
            schema["examples"] = [_restored(one, schema, components) for one in schema["examples"]]
        if "example" in schema:
            schema["example"] = _restored(schema["example"], schema, components)
    for media in _bodies(document):
        if "schema" in media and "example" not in media:
            example = _example(media["schema"], components)
            if example is not _NOTHING:
                media["example"] = example


def _bodies(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for item in document["paths"].values():
        for operation in item.values():
            told = [operation.get("requestBody", {})]
            told += [
                response
                for status, response in operation["responses"].items()
                if not status.startswith("4")
            ]
            for one in told:
                media = one.get("content", {}).get(_JSON)
                if media is not None:
                    yield media


def _resolved(schema: Mapping[str, Any], components: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Mapping[str, Any] = components[reference.removeprefix(_COMPONENT)]
    return found


def _options(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(schema.get("anyOf", [schema]))


def _may_be_null(schema: Mapping[str, Any]) -> bool:
    return any(option.get("type") == "null" for option in _options(schema))


def _restored(value: Any, schema: Mapping[str, Any], components: Mapping[str, Any]) -> Any:
    """The example with ``null`` for each required field that lacks and may be it."""
    here = _resolved(_options(schema)[0], components)
    if isinstance(value, list):
        return [_restored(one, here.get("items", {}), components) for one in value]
    if not isinstance(value, dict):
        return value
    fields = here.get("properties", {})
    whole = {name: _restored(one, fields.get(name, {}), components) for name, one in value.items()}
    missing = [
        name
        for name in here.get("required", ())
        if name not in whole and _may_be_null(fields.get(name, {}))
    ]
    return whole | dict.fromkeys(missing)


def _example(schema: Mapping[str, Any], components: Mapping[str, Any]) -> Any:
    """An example put together from those of the parts; ``_NOTHING`` where a part has none."""
    here = _resolved(_options(schema)[0], components)
    for own in (*here.get("examples", ()), *([here["example"]] if "example" in here else ())):
        return own
    if "items" in here:
        inside = _example(here["items"], components)
        return [] if inside is _NOTHING else [inside]
    if "properties" not in here:
        return None if _may_be_null(schema) else _NOTHING
    made = {name: _example(part, components) for name, part in here["properties"].items()}
    return _NOTHING if _NOTHING in made.values() else made
