"""The body of a source's requests: read once, and sent with each of them, however often the source reconnects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx2


class Body(NamedTuple):
    """A request's body.

    Attributes:
        content: the bytes; empty for no body.
        content_type: their media type, if the argument that they were passed by implies one.
    """

    content: bytes
    content_type: str | None


def encoded(
    method: str, *, content: str | bytes | None = None, data: Mapping[str, Any] | None = None, json: Any = None
) -> Body:
    """Return the body that one of the arguments gives, as httpx2 encodes it.

    Raises:
        TypeError: content that can be read only once, such as an iterator or a file; data that is not a mapping; a
            value that JSON lacks.
        ValueError: more than one of them, or any with a GET; a value that JSON lacks.
    """
    given = [name for name, value in (("content", content), ("data", data), ("json", json)) if value is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} each give a body: pass one of them")
    if given and method == "GET":
        raise ValueError(f'a GET carries no body: pass method="POST" with {given[0]}')
    if content is not None and not isinstance(content, str | bytes):
        raise TypeError(
            f"content is str or bytes, since it may have to be sent again, not {type(content).__name__}: "
            "read it first; or send the request yourself, and pass the response to from_response"
        )
    if data is not None and not isinstance(data, Mapping):
        raise TypeError(f"data is a form's fields, a mapping, not {type(data).__name__}: pass bytes or text as content")
    request = httpx2.Request("POST", "http://any", content=content, data=data, json=json)
    return Body(request.content, request.headers.get("content-type"))
