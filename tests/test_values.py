"""Values instead of text: what is JSON, and refused, what is read back, routes that yield values, and types."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections import OrderedDict, namedtuple
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import fastapi
import fastapi.sse
import msgspec
import pydantic
import pydantic.alias_generators
import pydantic.dataclasses
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

import h3ref
from h3ref import EventStreamParser, H3App, H3Event, MessageEvent, SSEEvent
from h3ref.adapters.asgi import EventSourceResponse, event_stream
from tests.clients import open_client
from tests.conftest import missing, require_module


class Place(pydantic.BaseModel):
    town: str
    height: float | None = None


class Trip(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(alias_generator=pydantic.alias_generators.to_camel, populate_by_name=True)

    first_place: Place
    at: datetime = datetime(2026, 1, 2, tzinfo=UTC)
    others: list[Place] = []


class Point(msgspec.Struct):
    x: float
    y: float | None = None


class Path2(msgspec.Struct, rename="camel"):
    all_points: list[Point]


class Colour(StrEnum):
    RED = "red"


class Kind(Enum):
    ONE = 1


@dataclass
class Tag:
    name: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Note:
    text: str
    tags: list[Tag] = field(default_factory=list)
    by: Place | None = None
    at: Point | None = None
    kind: ClassVar[str] = "note"


@pydantic.dataclasses.dataclass
class Checked:
    number: int


class OwnText(pydantic.BaseModel):
    shown: str
    hidden: str | None = None
    number: float = 0

    def model_dump_json(self, **options: Any) -> str:
        return super().model_dump_json(exclude_none=True, **options)


class Strings(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(ser_json_inf_nan="strings")

    number: float
    none: None = None


class Zero(pydantic.BaseModel):
    number: float
    none: None = None

    @pydantic.field_serializer("number", when_used="json")
    def zero(self, number: float) -> float:
        return number if math.isfinite(number) else 0


class Constants(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(ser_json_inf_nan="constants")

    number: float
    text: str = "NaN"


class Anything(pydantic.BaseModel):
    it: Any = None
    none: None = None


Pair = namedtuple("Pair", "a b")


# -- what is sent


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": 1, "b": [True, None, 0.5]}, '{"a":1,"b":[true,null,0.5]}'),
        ([], "[]"),
        ((1, "x"), '[1,"x"]'),
        (Pair(1, 2), "[1,2]"),
        (OrderedDict(b=1, a=2), '{"b":1,"a":2}'),
        ("a str is a JSON string", '"a str is a JSON string"'),
        ("", '""'),
        ("two\nlines\r and \u2028", '"two\\nlines\\r and \u2028"'),
        ("Grüße, 世界 🎉", '"Grüße, 世界 🎉"'),
        ("ü \ud800 \udfff", '"ü \\ud800 \\udfff"'),
        ({"\ud800": Tag("\ud800")}, '{"\\ud800":{"name":"\\ud800","weight":1.0}}'),
        (0, "0"),
        (-1.5, "-1.5"),
        (True, "true"),
        (None, "null"),
        (10**30, "1" + "0" * 30),
        ({1: "a number as key", None: 2}, '{"1":"a number as key","null":2}'),
        (Colour.RED, '"red"'),
        (Place(town="Ulm"), '{"town":"Ulm","height":null}'),
        (
            Trip(first_place=Place(town="Ulm")),
            '{"firstPlace":{"town":"Ulm","height":null},"at":"2026-01-02T00:00:00Z","others":[]}',
        ),
        ([Place(town="Ulm", height=478)], '[{"town":"Ulm","height":478.0}]'),
        ({"trip": Trip(first_place=Place(town="Ü"), others=[Place(town="B")])}, None),
        (Checked(1), '{"number":1}'),
        ([Checked(1)], '[{"number":1}]'),
        (OwnText(shown="x"), '{"shown":"x","number":0.0}'),
        ([OwnText(shown="x")], '[{"shown":"x","number":0.0}]'),
        (Point(1.0), '{"x":1.0,"y":null}'),
        (Path2([Point(1.0, 2.0)]), '{"allPoints":[{"x":1.0,"y":2.0}]}'),
        ([Path2([])], '[{"allPoints":[]}]'),
        (Tag("a"), '{"name":"a","weight":1.0}'),
        (
            Note("hi", [Tag("a", 2.0)], Place(town="Ulm"), Point(1.0)),
            '{"text":"hi","tags":[{"name":"a","weight":2.0}],"by":{"town":"Ulm","height":null},"at":{"x":1.0,"y":null}}',
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else None,
)
def test_a_value_is_compact_json_on_one_line(value: Any, text: str | None) -> None:
    event = SSEEvent.json(value)
    if text is not None:
        assert event.data == text
    assert event.data is not None
    assert event.encode() == b"data: " + event.data.encode() + b"\n\n"
    json.loads(event.data)


def test_the_other_fields_are_as_with_a_text() -> None:
    event = SSEEvent.json({"a": 1}, event="tick", id=7, retry=10, comment="c")
    assert event == SSEEvent('{"a":1}', event="tick", id="7", retry=10, comment="c")
    with pytest.raises(ValueError, match="event must be one line"):
        SSEEvent.json(1, event="a\nb")


def test_a_subclass_makes_its_own() -> None:
    class Own(SSEEvent): ...

    assert type(Own.json(1)) is Own


TEXT = st.text() | st.text(st.sampled_from('a\ud800\n"\\'))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


@given(JSON)
def test_any_json_comes_back_as_it_was(value: Any) -> None:
    (message,) = EventStreamParser().feed(SSEEvent.json(value).encode())
    assert message.json() == value
    assert message.json(Any) == value


# -- what is refused


def holding_itself() -> list[Any]:
    it: list[Any] = [1]
    it.append({"it": it})
    return it


def nested(levels: int) -> list[Any]:
    it: list[Any] = []
    for _ in range(levels):
        it = [it]
    return it


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (math.nan, ValueError, "value is nan, and JSON has neither NaN nor an infinity (RFC 8259, section 6)"),
        ([1, math.inf], ValueError, "value[1] is inf, and"),
        ({"a": [0, -math.inf]}, ValueError, "value['a'][1] is -inf, and"),
        ((Tag("x", math.nan),), ValueError, "value[0].weight is nan, and"),
        ({"a": {"at": datetime.now(UTC)}}, TypeError, "value['a']['at'] is a datetime, which JSON lacks: make it a"),
        (b"x", TypeError, "value is a bytes, which JSON lacks"),
        ({1, 2}, TypeError, "value is a set, which"),
        ([Decimal(1)], TypeError, "value[0] is a Decimal, which"),
        (object(), TypeError, "value is a object, which"),
        (Place, TypeError, "value is a ModelMetaclass, which"),
        (Tag, TypeError, "value is a type, which"),
        ({"a": {(1, 2): 3}}, TypeError, "value['a'] has a key that is a tuple: make it a str"),
        (holding_itself(), ValueError, "value[1]['it'] contains itself"),
        ([nested(200), b""], TypeError, "value[1] is a bytes"),
        ({math.nan: 1}, ValueError, "value is a dict that can't be JSON: "),
        (Place(town="x", height=math.nan), ValueError, "value['height'] is nan, and"),
        (Trip(first_place=Place(town="x"), others=[Place(town="y", height=math.inf)]), ValueError, "height'] is inf"),
        ({"a": Place(town="x", height=math.nan)}, ValueError, "value['a']['height'] is nan, and"),
        (Constants(number=math.nan), ValueError, "value['number'] is nan, and"),
        (Anything(it=[[1], (2,), math.inf]), ValueError, "value['it'][2] is inf, and"),
        (OwnText(shown="x", number=math.nan), ValueError, "value['number'] is nan, and"),
        ([Place(town="x"), b"x"], TypeError, "value[1] is a bytes, which JSON lacks"),
        (Anything(it=object()), ValueError, "value is a Anything that can't be JSON: Unable to serialize unknown type"),
        ([Anything(it=object())], ValueError, "value[0] is a Anything that can't be JSON: Unable"),
        (Place.model_construct(town="\ud800"), ValueError, "value is a Place that can't be JSON: "),
        (Point(math.nan), ValueError, "value['x'] is nan, and"),
        ([Point(math.nan)], ValueError, "value[0]['x'] is nan, and"),
        (Path2([Point(0, math.inf)]), ValueError, "value['allPoints'][0]['y'] is inf, and"),
        (Path2([object()]), TypeError, "value is a Path2 that can't be JSON: Encoding objects of type object"),  # type: ignore[list-item]
    ],
)
def test_what_json_has_not_is_refused_with_its_place_and_the_rule(value: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        SSEEvent.json(value)
    assert type(caught.value) is kind
    assert text in str(caught.value)
    assert caught.value.__cause__ is None


def test_what_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(ValueError, match="value is nested too deeply"):
        SSEEvent.json(nested(100_000))


@pytest.mark.parametrize(
    "value",
    [
        Strings(number=math.nan),  # it says what it makes of it
        Zero(number=math.nan),
        Constants(number=1),  # its text says NaN
        Place(town="null NaN Infinity"),
        Anything(it={"none": None, "many": {1, 2}, "pair": (0.5, None)}),
        Point(0.5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_model_that_only_looks_like_it_is_sent(value: Any) -> None:
    assert SSEEvent.json(value).data is not None


def test_a_struct_of_a_package_that_nobody_has_loaded_is_no_struct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "msgspec")
    with pytest.raises(TypeError, match="looks like a struct of msgspec, which is not loaded"):
        SSEEvent.json(Point(1.0))


def test_neither_package_is_imported_by_ours() -> None:
    code = (
        "import sys, dataclasses, h3ref\n"
        "@dataclasses.dataclass\n"
        "class Tag:\n    name: str\n"
        "event = h3ref.SSEEvent.json([Tag('a')])\n"
        "message, = h3ref.EventStreamParser().feed(event.encode())\n"
        "assert message.json(list[Tag]) == [Tag('a')]\n"
        "print({'pydantic', 'pydantic_core', 'msgspec'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")


# -- whole numbers as ids


class Number(int):
    def __str__(self) -> str:
        return "7\ninjected: 1"


@pytest.mark.parametrize(("id", "text"), [(0, "0"), (3, "3"), (-1, "-1"), (2**64, str(2**64)), (Number(7), "7")])
def test_a_whole_number_is_an_id_as_text(id: int, text: str) -> None:
    event = SSEEvent("x", id=id)
    assert event.id == text
    assert event == SSEEvent("x", id=text)
    assert event.encode() == f"id: {text}\ndata: x\n\n".encode()


@pytest.mark.parametrize("id", [True, False, 1.0, Decimal(1), b"1"])
def test_what_is_no_whole_number_is_no_id(id: Any) -> None:
    with pytest.raises(TypeError, match="id must be a str"):
        SSEEvent("x", id=id)


@pytest.mark.parametrize("digits", [4097, 10_000])
def test_a_number_of_thousands_of_digits_is_no_id(digits: int) -> None:
    with pytest.raises(ValueError, match="id must have at most 4096 bytes"):
        SSEEvent("x", id=10 ** (digits - 1))


# -- what is read back


def received(event: SSEEvent) -> MessageEvent:
    (message,) = EventStreamParser().feed(event.encode())
    return message


@pytest.mark.parametrize(
    "value",
    [
        Place(town="Ulm", height=478),
        Trip(first_place=Place(town="Ulm"), others=[Place(town="B")]),
        Checked(3),
        Point(1.0, 2.0),
        Path2([Point(1.0)]),
        Tag("a"),
        Note("hi", [Tag("a", 2.0)], Place(town="Ulm"), Point(1.0)),
        Note("hi"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_model_comes_back_as_it_was(value: Any) -> None:
    message = received(SSEEvent.json(value))
    assert message.json(type(value)) == value
    assert type(message.json()) is dict
    several: Any = list[type(value)]  # type: ignore[misc]
    assert received(SSEEvent.json([value, value])).json(several) == [value, value]


class Fields(NamedTuple):
    """A NamedTuple is an array, and no model."""

    a: int


@dataclass
class All:
    number: Annotated[float, "a whole one, too"]
    pair: tuple[int, str]
    many: tuple[int, ...]
    by_name: dict[str, Tag]
    either: int | str | list[Tag]
    none: None
    word: Literal["a", 1]
    colour: Colour
    kind: Kind
    anything: Any
    some: object
    free: dict  # type: ignore[type-arg]
    listed: list  # type: ignore[type-arg]
    checked: Checked
    made: int = field(init=False, default=3)


ALL: dict[str, Any] = {
    "number": 1,
    "pair": [1, "x"],
    "many": [1, 2],
    "by_name": {"a": {"name": "a"}},
    "either": [{"name": "b"}],
    "none": None,
    "word": "a",
    "colour": "red",
    "kind": 1,
    "anything": [None],
    "some": {"a": 1},
    "free": {},
    "listed": [],
    "checked": {"number": "4"},  # pydantic's to say
}


def as_text(value: Any) -> MessageEvent:
    return MessageEvent("message", json.dumps(value), "")


def test_a_dataclass_is_read_by_its_types() -> None:
    read = as_text(ALL | {"unknown": 1, "made": 4}).json(All)
    assert read.number == 1.0
    assert type(read.number) is float
    assert (read.pair, read.many, read.by_name) == ((1, "x"), (1, 2), {"a": Tag("a")})
    assert read.either == [Tag("b")]
    assert (read.none, read.word, read.colour, read.kind) == (None, "a", Colour.RED, Kind.ONE)
    assert (read.anything, read.some, read.checked, read.made) == ([None], {"a": 1}, Checked(4), 3)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"number": "1"}, "data.number must be float, not str"),
        ({"number": True}, "data.number must be float, not bool"),
        ({"pair": [1]}, "data.pair has 1 items, not 2"),
        ({"pair": {"a": 1}}, "data.pair must be list, not dict"),
        ({"many": [1, 1.5]}, "data.many[1] must be int, not float"),
        ({"by_name": {"a": {}}}, "data.by_name['a'] has no 'name', which a Tag needs"),
        ({"by_name": []}, "data.by_name must be dict, not list"),
        ({"either": None}, "data.either must be int, not NoneType; and data.either must be str, not NoneType; and"),
        ({"none": 0}, "data.none must be NoneType, not int"),
        ({"word": True}, "data.word must be one of 'a', 1"),
        ({"colour": "blue"}, "data.colour: 'blue' is not a valid Colour"),
        ({"listed": {}}, "data.listed must be list, not dict"),
        ({"checked": {"number": "x"}}, "should be a valid integer"),
    ],
    ids=str,
)
def test_what_is_no_such_dataclass_is_refused_with_its_place(changed: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        as_text(ALL | changed).json(All)
    assert text in str(caught.value)


@dataclass
class Elsewhere:
    it: Nowhere  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("model", "value", "text"),
    [
        (datetime, "2026", "put it in a pydantic model or a msgspec struct, which can read it"),
        (Fields, [1], "put it in a pydantic model or a msgspec struct, which can read it"),
        (dict[int, str], {}, "put it in a pydantic model or a msgspec struct, which can read it"),
        (set[int], [], "put it in a pydantic model or a msgspec struct, which can read it"),
        (Elsewhere, {}, "the fields of Elsewhere can't be read from JSON: name 'Nowhere' is not defined"),
    ],
    ids=str,
)
def test_what_is_no_model_is_refused(model: Any, value: Any, text: str) -> None:
    with pytest.raises(TypeError) as caught:
        as_text(value).json(model)
    assert text in str(caught.value)


@pytest.mark.parametrize("model", [Place, Checked, Point, Tag, None])
def test_what_is_not_json_is_a_value_error(model: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        MessageEvent("message", "{", "").json(model)


@pytest.mark.parametrize("model", [Place, Checked, Point, Tag])
def test_what_is_another_model_is_a_value_error(model: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        as_text({"other": 1}).json(model)


# -- routes that yield values


VALUES: list[Any] = [Place(town="Ulm"), {"data": 1}, "text", None, [Tag("a")], SSEEvent("as it is", event="e")]
SENT = [
    ("message", '{"town":"Ulm","height":null}'),
    ("message", '{"data":1}'),
    ("message", '"text"'),
    ("message", "null"),
    ("message", '[{"name":"a","weight":1.0}]'),
    ("e", "as it is"),
]


def messages_of(body: bytes) -> list[tuple[str, str]]:
    return [(message.type, message.data) for message in EventStreamParser().feed(body)]


@pytest.mark.anyio
async def test_a_route_streams_values(adapter: str) -> None:
    app = H3App()

    @app.sse("/async", json=True)
    async def asynchronous(event: H3Event) -> AsyncIterator[Any]:
        for value in VALUES:
            yield value

    @app.sse("/plain", json=True)
    def plain(event: H3Event) -> Iterator[Any]:
        yield from VALUES

    async with open_client(adapter, app) as client:
        for path in ("/async", "/plain"):
            reply = await client.request("GET", path)
            assert messages_of(await reply.read()) == SENT


@pytest.mark.anyio
async def test_a_first_value_that_is_refused_is_a_500_and_a_later_one_cuts(
    adapter: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = H3App()

    @app.sse("/first", json=True)
    async def first(event: H3Event) -> AsyncIterator[float]:
        yield math.nan

    @app.sse("/first-plain", json=True)
    def first_plain(event: H3Event) -> Iterator[float]:
        yield math.nan

    @app.sse("/text")
    async def text(event: H3Event) -> AsyncIterator[Any]:
        yield {"a": 1}

    async with open_client(adapter, app) as client:
        for path in ("/first", "/first-plain", "/text"):
            assert (await client.request("GET", path)).status == 500
    assert "value is nan" in caplog.text


async def values() -> AsyncIterator[Any]:
    for value in VALUES:
        yield value


@pytest.mark.parametrize("content", [values, lambda: iter(VALUES), lambda: VALUES], ids=["async", "plain", "list"])
def test_a_response_streams_values(content: Callable[[], Any]) -> None:
    app = fastapi.FastAPI()

    @app.get("/events")
    async def events() -> fastapi.Response:
        return EventSourceResponse(content(), json=True)

    assert messages_of(TestClient(app).get("/events").content) == SENT


def test_without_it_a_dict_is_an_event_and_a_model_is_refused() -> None:
    app = fastapi.FastAPI()

    @app.get("/events")
    async def events() -> fastapi.Response:
        return EventSourceResponse([{"data": 1}, "text"])

    @app.get("/model")
    async def model() -> fastapi.Response:
        return EventSourceResponse([Place(town="x")])  # type: ignore[list-item]

    client = TestClient(app)
    assert messages_of(client.get("/events").content) == [("message", "1"), ("message", "text")]
    with pytest.raises(TypeError, match="an item is an SSEEvent"):
        client.get("/model")


# -- what FastAPI says of them


class Node(pydantic.BaseModel):
    name: str
    inner: list[Node] = []


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    place: Place


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"


Pet = Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]


def told(app: fastapi.FastAPI, path: str) -> Any:
    """What the document says of a path's answer, with the schemas in place of what refers to them."""
    document = app.openapi()

    def whole(part: Any) -> Any:
        if isinstance(part, list):
            return [whole(one) for one in part]
        if isinstance(part, dict):
            if "$ref" in part:
                return whole(document["components"]["schemas"][part["$ref"].rpartition("/")[2]])
            return {name: whole(one) for name, one in part.items() if name != "mapping"}
        return part

    return whole(document["paths"][path]["get"]["responses"])


@pytest.mark.parametrize("model", [Place, Trip, Pet], ids=["a model", "one in another", "several"])
def test_fastapi_describes_a_stream_of_values_as_its_own(model: Any) -> None:
    app = fastapi.FastAPI()

    @app.get("/yields", **event_stream(model))
    async def yields() -> AsyncIterator[Any]:
        yield Place(town="Ulm")

    @app.get("/returns", **event_stream(model))
    async def returns() -> EventSourceResponse:
        return EventSourceResponse(iter([Place(town="Ulm")]), json=True, ping=5)

    async def theirs() -> AsyncIterator[Any]:
        yield Place(town="Ulm")

    theirs.__annotations__["return"] = AsyncIterator[model]
    app.get("/theirs", response_class=fastapi.sse.EventSourceResponse)(theirs)

    described = told(app, "/theirs")
    schema = described["200"]["content"]["text/event-stream"]["itemSchema"]
    content = schema["properties"]["data"]["contentSchema"]
    content.pop("title", None) if model is Pet else None  # theirs names it after the route
    assert content["type" if model is not Pet else "oneOf"]
    assert told(app, "/yields") == told(app, "/returns") == described
    client = TestClient(app)
    for path in ("/yields", "/returns"):
        answer = client.get(path)
        assert messages_of(answer.content) == [("message", '{"town":"Ulm","height":null}')]
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"


def test_fastapi_describes_a_stream_of_text_as_its_own() -> None:
    app = fastapi.FastAPI()

    @app.get("/ours", **event_stream())
    async def ours() -> AsyncIterator[str]:
        yield "text"

    @app.get("/theirs", response_class=fastapi.sse.EventSourceResponse)
    async def theirs() -> AsyncIterator[fastapi.sse.ServerSentEvent]:
        yield fastapi.sse.ServerSentEvent(raw_data="text")

    assert told(app, "/ours") == told(app, "/theirs")
    assert messages_of(TestClient(app).get("/ours").content) == [("message", "text")]


def test_a_router_hands_the_description_on() -> None:
    app, router = fastapi.FastAPI(), fastapi.APIRouter()

    @router.get("/events", **event_stream(Point, responses={404: {"description": "No such stream"}}))
    def events() -> Iterator[Point]:
        yield Point(1.0)

    app.include_router(router, prefix="/api")
    described = told(app, "/api/events")
    data = described["200"]["content"]["text/event-stream"]["itemSchema"]["properties"]["data"]
    assert data["contentSchema"]["properties"]["x"] == {"type": "number"}
    assert described["404"] == {"description": "No such stream"}
    assert messages_of(TestClient(app).get("/api/events").content) == [("message", '{"x":1.0,"y":null}')]


def test_a_model_within_itself_is_shown_until_it_comes_again() -> None:
    item = event_stream(Node)["responses"][200]["content"]["text/event-stream"]["itemSchema"]
    assert item["properties"]["data"]["contentSchema"]["properties"]["inner"]["items"] == {"title": "Node"}
    assert "$" not in json.dumps(item)


def test_several_structs_are_described_by_msgspec() -> None:
    class Up(msgspec.Struct, tag=True):
        by: int

    class Down(msgspec.Struct, tag=True):
        by: int

    item = event_stream(Up | Down)["responses"][200]["content"]["text/event-stream"]["itemSchema"]
    content = item["properties"]["data"]["contentSchema"]
    assert [one["title"] for one in content["anyOf"]] == ["Up", "Down"]
    assert "$" not in json.dumps(item)


def test_what_has_no_schema_can_not_be_described(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="has no JSON schema, by which event_stream describes a route"):
        event_stream(H3App)
    monkeypatch.delitem(sys.modules, "pydantic")
    with pytest.raises(TypeError, match="describes a FastAPI route, but FastAPI has not been imported"):
        event_stream(int)


# -- types


TYPED = """
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from h3ref import H3App, H3Event, MessageEvent, SSEEvent, SSEWriter
from h3ref.adapters.asgi import EventSourceResponse, event_stream

app = H3App()

@dataclass
class Token:
    text: str

@app.sse("/1")
async def texts(event: H3Event) -> AsyncIterator[str]:
    yield "x"

@app.sse("/2")
async def events(event: H3Event) -> AsyncGenerator[SSEEvent, None]:
    yield SSEEvent.json(Token("x"), id=3)

@app.sse("/3", method="POST", commit_after=2)
def plain(event: H3Event) -> Iterator[SSEEvent | str]:
    yield "x"

@app.sse("/4", json=True)
async def tokens(event: H3Event) -> AsyncIterator[Token]:
    yield Token("x")

@app.sse("/5", json=True)
def more_tokens(event: H3Event) -> Generator[Token, None, None]:
    yield Token("x")

@app.get("/6")
async def asynchronous(event: H3Event) -> None:
    event.start_sse()

@app.get("/7")
def blocking(event: H3Event) -> None:
    event.send_text("x")

app.get("/8", blocking)
app.post("/8", asynchronous)
app.get("/9", lambda event: event.send_text("x"))

@app.on_error
def failed(event: H3Event, error: Exception) -> None: ...

async def numbers() -> AsyncIterator[int]:
    yield 1

async def all_tokens() -> AsyncIterator[Token]:
    yield Token("x")

async def callback(writer: SSEWriter) -> None:
    await writer.send_event(SSEEvent.json({"a": 1}))

EventSourceResponse(numbers())
EventSourceResponse(all_tokens(), json=True)
EventSourceResponse([{"data": 1}, "x"])
EventSourceResponse(callback, ping=5)
message = MessageEvent("message", "{}", "")
token: Token = message.json(Token)
many: list[Token] = message.json(list[Token])
anything: Any = message.json()

async def ints(event: H3Event) -> AsyncIterator[int]:
    yield 1

def nothing() -> Iterator[str]:
    yield "x"

async def no_event() -> None: ...

def a_dict(event: H3Event) -> dict[str, int]:
    return {}

async def an_async_dict(event: H3Event) -> dict[str, int]:
    return {}

def a_str(event: H3Event) -> str:
    return "x"

app.sse("/a")(ints)  # refused
app.sse("/b")(nothing)  # refused
app.sse("/c")(a_dict)  # refused
app.sse("/d")(a_str)  # refused
app.sse("/e")(asynchronous)  # refused
app.sse("/f", json=True)(asynchronous)  # refused
app.sse("/g", json=True)(nothing)  # refused
app.get("/h", no_event)  # refused
app.get("/i")(no_event)  # refused
app.get("/j")(a_dict)  # refused
app.get("/k", an_async_dict)  # refused
app.get("/l")(a_str)  # refused
app.get("/m", texts)  # refused
app.get("/n", {})  # refused
app.on("GET", "/o", {"a": 1})  # refused
app.post("/p")(plain)  # refused
app.on_request(failed)  # refused
app.on_error(blocking)  # refused
EventSourceResponse(all_tokens())  # refused
EventSourceResponse([Token("x")])  # refused
SSEEvent("x", id=1.5)  # refused
number: int = message.json(Token)  # refused
"""

REFUSED = {number for number, line in enumerate(TYPED.splitlines(), start=1) if line.endswith("# refused")}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_mypy_takes_what_runs_and_refuses_the_rest(tmp_path: Path) -> None:
    (tmp_path / "typed.py").write_text(TYPED)
    options = [
        "--strict",
        "--no-error-summary",
        "--no-color-output",
        "--hide-error-context",
        "--config-file=",
        "--no-pretty",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, f"--cache-dir={tmp_path}", "typed.py"],
        cwd=tmp_path, capture_output=True, text=True, env=paths(),
    )  # fmt: skip
    found = {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line}
    assert found == REFUSED, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_pyright_takes_what_runs_and_refuses_the_rest(tmp_path: Path) -> None:
    require_module("pyright", "pyright[nodejs]")
    if subprocess.run([sys.executable, "-m", "pyright", "--version"], capture_output=True).returncode:
        missing("pyright is fetched when it is first called, and could not be")
    (tmp_path / "typed.py").write_text(TYPED)
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "typed.py"],
        cwd=tmp_path, capture_output=True, text=True, env=paths(),
    )  # fmt: skip
    found = {
        one["range"]["start"]["line"] + 1
        for one in json.loads(done.stdout)["generalDiagnostics"]
        if one["severity"] == "error"
    }
    assert found == REFUSED, done.stdout + done.stderr


def paths() -> dict[str, str]:
    """An environment in which this checkout is the one that is found."""
    root = str(Path(h3ref.__file__).resolve().parents[1])
    return {**os.environ, "PYTHONPATH": root, "MYPYPATH": root}
