"""A stream over HTTP/2, if the server offers it in the TLS handshake; needs the extra `client`."""

from __future__ import annotations

import importlib.util
import ssl
from urllib.parse import urlsplit

import anyio

from .verdict import Finding, failed, not_applicable, not_run, passed
from .wire import Target


async def ask_by_http2(target: Target, seconds: float) -> Finding:
    """Ask for the stream by HTTP/2, and say what came.

    Args:
        target: what to ask.
        seconds: how long it may take.
    """
    if urlsplit(target.url).scheme != "https":
        return not_applicable("it is offered by TLS alone")
    if importlib.util.find_spec("httpx2") is None or importlib.util.find_spec("h2") is None:
        return not_run("it needs an extra and h2: pip install 'h3ref[client]' h2")
    import httpx2

    secure = ssl.create_default_context()  # trusts whom the other requests trust
    headers = {"Accept": "text/event-stream", **dict(target.headers)}
    try:
        with anyio.fail_after(seconds):
            async with (
                httpx2.AsyncClient(http2=True, timeout=seconds, trust_env=False, verify=secure) as client,
                client.stream(target.method, target.url, headers=headers, content=target.body) as response,
            ):
                if response.http_version != "HTTP/2":
                    return not_applicable("it is not offered")
                kind = response.headers.get("content-type", "no type")
                said = f"{response.status_code}, {kind}"
                fine = response.status_code == 200 and kind.partition(";")[0].strip() == "text/event-stream"
                return passed(said) if fine else failed(said, f"{said}\n".encode())
    except TimeoutError:
        return failed(f"no head in {seconds:g} s", target.request())
    except httpx2.HTTPError as error:
        return failed(f"{type(error).__name__}: {error}", target.request())
