"""Redirects: which are followed, and which headers go along. No I/O, so that the twins can't differ.

Fetch, 4.4 "HTTP-redirect fetch", drops Authorization when the origin changes, and knows no other header that may be a
secret. A program has more of them than a page, such as X-Api-Key; so here only headers that are known to be safe go
along.
"""

from __future__ import annotations

from typing import Final, Literal

import httpx2

from . import urls

__all__ = ["SAFE_HEADERS"]

FollowRedirects = bool | Literal["same-origin"]

SAFE_HEADERS: Final = (
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Cache-Control",
    "Connection",
    "Last-Event-ID",
    "User-Agent",
)
"""The request's headers that a redirect takes along to another origin; Host becomes the new one's."""

_SAFE: Final = frozenset(name.lower().encode() for name in SAFE_HEADERS)


class Redirects:
    """The redirects of one request, one after the other.

    Args:
        follow: as in `EventSource(follow_redirects=)`.
        most: how many are followed.

    Attributes:
        history: the answers that were redirects.
        same_origin: whether the request is still at its first origin.
    """

    def __init__(self, follow: FollowRedirects, most: int) -> None:
        self._follow = follow
        self._most = most
        self.history: list[httpx2.Response] = []
        self.same_origin = True

    def following(self, response: httpx2.Response, cookies: httpx2.Cookies) -> httpx2.Request | None:
        """Return the request that an answer redirects to; None if it is not a redirect, or not to be followed.

        Args:
            response: the answer, to a request that was sent without following redirects.
            cookies: the client's, of which those made for another host go there.

        Raises:
            httpx2.TooManyRedirects: there have been too many.
            httpx2.RemoteProtocolError: it leads to no URL where a stream can be.
        """
        request = _next_request(response)
        if request is None or self.fault_of(response) is not None:
            return None
        if len(self.history) >= self._most:
            raise httpx2.TooManyRedirects(f"more than {self._most} redirects", request=response.request)
        self.history.append(response)
        if request.url.origin == response.request.url.origin:
            return request
        self.same_origin = False
        return _stripped(request, cookies)

    def fault_of(self, response: httpx2.Response) -> str | None:
        """Say why a redirect isn't followed, and what to do; None if it is, or the answer is not a redirect."""
        request = _next_request(response)
        if request is None:
            return None
        if self._follow is False:
            return "which follow_redirects=False does not follow; ask there, or pass follow_redirects=True"
        if request.url.origin == response.request.url.origin:
            return None
        if self._follow == "same-origin":
            return 'another origin, where follow_redirects="same-origin" does not go; ask there if you trust it'
        if _has_body(request):
            return "another origin, and the request's body is never sent on to one; ask there if you trust it"
        return None


def checked(follow: object) -> FollowRedirects:
    """Return the argument `follow_redirects`, if it is valid."""
    if follow is True or follow is False or follow == "same-origin":
        return follow
    raise ValueError(f'follow_redirects is True, False or "same-origin", not {follow!r}')


def _next_request(response: httpx2.Response) -> httpx2.Request | None:
    """The request that httpx2 would send after a redirect, whatever the origin; None if there is no redirect."""
    if not response.has_redirect_location:
        return None
    if response.next_request is not None:
        try:
            urls.check(response.next_request.url)
        except ValueError:
            pass
        else:
            return response.next_request
    location = response.headers["location"].partition("?")[0].rpartition("@")[2]  # a log may get to see it
    message = f"a redirect to {location!r}, which is not an http or https URL"
    raise httpx2.RemoteProtocolError(message, request=response.request)


def _has_body(request: httpx2.Request) -> bool:
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"


def _stripped(request: httpx2.Request, cookies: httpx2.Cookies) -> httpx2.Request:
    """The request without anything of the user's that was not meant for its new origin."""
    own = httpx2.Cookies()
    for cookie in cookies.jar:
        if cookie.domain:  # one that a server set; those of the user's own are for no host, and would go to each
            own.jar.set_cookie(cookie)
    headers = [(name, value) for name, value in request.headers.raw if name.lower() in _SAFE]
    return httpx2.Request(request.method, request.url, headers=headers, cookies=own, extensions=request.extensions)
