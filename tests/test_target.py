"""The target of a request under ASGI servers: below a mount, with a root path, in absolute form."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from litestar import Litestar, asgi
from starlette.applications import Starlette
from starlette.routing import Mount

from h3ref import H3App
from h3ref.adapters.asgi.target import target_of
from tests.asgi_servers import on_granian, on_hypercorn, on_uvicorn
from tests.clients import raw


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode()


def where() -> H3App:
    app = H3App()
    app.get("/*", lambda event: event.send_json([event.path, event.target]))
    return app


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("kind", ["starlette", "fastapi", "litestar"])
async def test_a_mounted_app_routes_by_the_path_below(kind: str) -> None:
    if kind == "starlette":
        outer: Any = Starlette(routes=[Mount("/a b", app=where())])
    elif kind == "litestar":
        outer = Litestar([asgi("/a b", is_mount=True, copy_scope=True)(where())], logging_config=None)
    else:
        outer = FastAPI()
        outer.mount("/a b", where())
    async with on_uvicorn(outer, bare=True) as server:
        answer = await raw(server.port, get("/a%20b/caf%C3%A9/x%2Fy?q=%31"))
        assert answer.endswith('["/café/x/y","/caf%C3%A9/x%2Fy?q=%31"]'.encode())
        assert (await raw(server.port, get("/a%20b/"))).endswith(b'["/","/"]')
        assert (await raw(server.port, get("/a%20b/events"))).endswith(b'["/events","/events"]')
        assert (await raw(server.port, get("/a%20b/events/"))).endswith(b'["/events/","/events/"]')


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("root", ["", "/api"])
@pytest.mark.parametrize("served", ["uvicorn-h11", "uvicorn-httptools", "hypercorn", "granian"])
async def test_an_absolute_target_is_routed_by_its_path_and_a_root_path_is_taken_off(served: str, root: str) -> None:
    async with serve_at(served, root) as port:
        for target, expected in [
            ("/x%2Fy/?q=%31", ["/x/y/", "/x%2Fy/?q=%31"]),
            ("http://test/x?q=http://a/b", ["/x", "/x?q=http://a/b"]),
            ("http://user@test:80/caf%C3%A9/", ["/café/", "/caf%C3%A9/"]),
            ("/http://test/x", ["/http://test/x", "/http://test/x"]),
            # Uvicorn with httptools takes one without a path for no request.
            *([] if served == "uvicorn-httptools" else [("http://test", ["/", "/"])]),
        ]:
            answer = await raw(port, get(target))
            assert json.loads(answer.partition(b"\r\n\r\n")[2]) == expected, target


@asynccontextmanager
async def serve_at(served: str, root: str) -> AsyncIterator[int]:
    """Serve an app by a server that has a root path, and give its port."""
    name, _, http = served.partition("-")
    if name == "uvicorn":
        async with on_uvicorn(where(), config={"http": http, "root_path": root}) as server:
            yield server.port
    elif name == "hypercorn":
        async with on_hypercorn(where(), config={"root_path": root}) as server:
            yield server.port
    else:
        async with on_granian(where(), config={"url_path_prefix": root} if root else {}) as server:
            yield server.port


@pytest.mark.parametrize(
    ("path", "raw_path", "root", "target"),
    [
        ("/x", b"/x", "", "/x"),
        ("/api/x", b"/api/x", "/api", "/x"),
        ("/api/x", b"/api/x", "/api/", "/x"),
        ("/api", b"/api", "/api", "/"),
        ("/apix", b"/apix", "/api", "/apix"),  # not below it
        ("/x", b"/x", "/api", "/x"),  # a server that leaves the root out of the path
        ("/~a/x y", b"/%7ea/x%20y", "/~a", "/x%20y"),
        ("/a/b/x/y", b"/a%2Fb/x%2Fy", "/a/b", "/x%2Fy"),
        ("/a/é", None, "/a", "/%C3%A9"),
        ("/new", b"/old", "", "/new"),  # rewritten by a middleware
        ("/x", b"/x?q=1", "", "/x"),
        ("*", b"*", "", "*"),
        ("http://test/a b", b"http://test/a%20b", "", "/a%20b"),
        ("HTTP://user@test:80", b"HTTP://user@test:80", "", "/"),
        ("/apihttp://test/x", b"/apihttp://test/x", "/api", "/x"),  # uvicorn's root path
        ("http://test/api/x", b"http://test/api/x", "/api", "/x"),
        ("/http://test/x", b"/http://test/x", "", "/http://test/x"),
        ("/x/y", b"/mount/x%2Fy", "", "/x%2Fy"),  # a mount that tells no root path
        ("/x/y/", b"/mount/x%2Fy", "", "/x%2Fy"),  # Litestar's
        ("/x/", b"/mount/x/", "", "/x/"),
        ("/", b"/mount", "", "/"),
        ("/x/", b"/x", "", "/x/"),  # a slash that a middleware wants
    ],
)
def test_the_target_below_a_mount(path: str, raw_path: bytes | None, root: str, target: str) -> None:
    scope: dict[str, Any] = {"path": path, "root_path": root, "query_string": b""}
    assert target_of({**scope, "raw_path": raw_path}) == target
    if raw_path is None:
        assert target_of({"path": path, "root_path": root, "query_string": b"a=%31"}) == f"{target}?a=%31"
