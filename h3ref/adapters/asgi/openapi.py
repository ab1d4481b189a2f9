"""`event_stream`: describes in a FastAPI route's OpenAPI document that it streams, and what.

OpenAPI 3.2, section 4.14.4 "Special Considerations for Server-Sent Events": a stream's media type has an `itemSchema`,
that of one event. FastAPI writes the same of its own streams.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final, get_args

from ...headers import EVENT_STREAM
from .items import Content, Values
from .response import EventSourceResponse

_FIELDS: Final[dict[str, Any]] = {
    "data": {"type": "string"},
    "event": {"type": "string"},
    "id": {"type": "string"},
    "retry": {"type": "integer", "minimum": 0},
}
_DEFINITIONS: Final = "#/$defs/"


def event_stream(model: Any = None, *, responses: Mapping[int | str, dict[str, Any]] | None = None) -> dict[str, Any]:
    """Return the arguments that describe a FastAPI route as a stream: `@app.get("/tokens", **event_stream(Token))`.

    The document shows `text/event-stream`, with the schema of its events. A route that yields streams what it yields;
    with a model these are values, and all but an `SSEEvent` becomes JSON. A route that returns an `EventSourceResponse`
    says so itself, by `json=True`.

    Args:
        model: the type of an event's data, which is JSON: anything that pydantic has a schema for, or a msgspec struct;
            `A | B` for several. A recursive model is shown down to where it comes again. None if the data is text.
        responses: further ones, as a route's own argument of that name.

    Raises:
        TypeError: the model has no schema.
    """
    item: dict[str, Any] = {"type": "object", "properties": dict(_FIELDS)}
    if model is not None:
        schema = _schema_of(model)
        data = {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}
        item = {"type": "object", "properties": _FIELDS | {"data": data}, "required": ["data"]}
    return {
        "response_class": _Events if model is None else _Values,
        "responses": {200: {"content": {EVENT_STREAM: {"itemSchema": item}}}, **(responses or {})},
    }


class _Events(EventSourceResponse):
    """The stream of a route that yields; FastAPI makes one of what the route's function returns."""

    media_type = None  # of the class: FastAPI would describe the whole stream as one text, beside its events

    def __init__(self, content: Content, status_code: int = 200, **options: Any) -> None:
        super().__init__(content, status_code, media_type=EVENT_STREAM, **options)


class _Values(_Events):
    def __init__(self, content: Values, status_code: int = 200, **options: Any) -> None:
        super().__init__(content, status_code, json=True, **options)


def _schema_of(model: Any) -> dict[str, Any]:
    """The whole schema of a model's JSON: what it refers to stands in place of the reference."""
    if any(hasattr(part, "__struct_fields__") for part in (model, *get_args(model))):
        schema = sys.modules["msgspec"].json.schema(model)
    elif "pydantic" in sys.modules:  # FastAPI has loaded it
        try:
            schema = sys.modules["pydantic"].TypeAdapter(model).json_schema(mode="serialization")
        except sys.modules["pydantic"].PydanticUserError as error:
            raise TypeError(f"{model!r} has no JSON schema, by which event_stream describes a route: {error}") from None
    else:
        raise TypeError("event_stream(model) describes a FastAPI route, but FastAPI has not been imported")
    definitions = schema.pop("$defs", {})
    whole: dict[str, Any] = _resolved(schema, definitions, ())
    return whole


def _resolved(schema: Any, definitions: Mapping[str, Any], above: tuple[str, ...]) -> Any:
    """A schema with its references resolved, since they would be looked up in the whole document."""
    if isinstance(schema, list):
        return [_resolved(part, definitions, above) for part in schema]
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        parts = {key: _resolved(part, definitions, above) for key, part in schema.items()}
        if isinstance(parts.get("discriminator"), dict):
            parts["discriminator"].pop("mapping", None)  # of values to references; each part names its own value
        return parts
    name = reference.removeprefix(_DEFINITIONS)
    rest = {key: part for key, part in schema.items() if key != "$ref"}
    if name in above:
        return {"title": name, **rest}
    return {**_resolved(definitions[name], definitions, (*above, name)), **rest}
