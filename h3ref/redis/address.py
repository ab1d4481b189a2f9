"""`Address`: where a server is, and how to speak to it: from a URL, or by asking sentinels."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from coredis.connection import TCPLocation, UnixDomainSocketLocation

PORT: Final = 6379
SENTINEL_PORT: Final = 26379

FORMS: Final = "redis://[[user]:password@]host[:port][/database], rediss://… or unix:///path[?db=database]"


class Address:
    """Where a server is.

    Args:
        url: its URL.
        port: the port, if the URL has none.
        hostless: whether the URL may leave out the host, because sentinels name it.

    Attributes:
        location: where it is; None if sentinels say so.
        options: how to speak to it, as coredis' connections take them.

    Raises:
        ValueError: the URL can't be used. The text leaves out the password.
    """

    def __init__(self, url: str, *, port: int = PORT, hostless: bool = False) -> None:
        if not isinstance(url, str):
            raise TypeError(f"a URL is a str such as {FORMS}, not {type(url).__name__}")
        try:
            parts = urlsplit(url)
            host, number = parts.hostname, parts.port
        except ValueError:
            raise ValueError(f"this is not the URL of a Redis server, which is {FORMS}") from None
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise ValueError(f"a Redis server's URL is {FORMS}; this one begins with {parts.scheme or 'nothing'}:")
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        path = unquote(parts.path)
        self.options: dict[str, Any] = {}
        self.location: TCPLocation | UnixDomainSocketLocation | None = None
        if parts.scheme == "unix":
            if not path:
                raise ValueError(f"a Redis server's URL is {FORMS}; this one has no path")
            self.location = UnixDomainSocketLocation(path=path)
            database = query.pop("db", "0")
        else:
            if host:
                self.location = TCPLocation(host, number or port)
            elif not hostless:
                raise ValueError(f"a Redis server's URL is {FORMS}; this one has no host")
            database = query.pop("db", "") or path.strip("/") or "0"
        if not (database.isascii() and database.isdigit()):
            raise ValueError(f"a Redis server's URL is {FORMS}; its database is a number, not {database!r}")
        if parts.scheme == "rediss":
            self.options["ssl_context"] = ssl.create_default_context(cafile=query.pop("ssl_ca_certs", None))
        if query:
            raise ValueError(f"a Redis server's URL is {FORMS}; it has no parameter {next(iter(query))!r}")
        self.options["db"] = int(database)
        if parts.username:
            self.options["username"] = unquote(parts.username)
        if parts.password:
            self.options["password"] = unquote(parts.password)

    def __str__(self) -> str:
        """Where it is, without a password."""
        if isinstance(self.location, UnixDomainSocketLocation):
            return str(self.location.path)
        if self.location is None:
            return "a host that sentinels name"
        return f"{self.location.host}:{self.location.port}"


def sentinel_address(sentinel: str | tuple[str, int]) -> Address:
    """The address of a sentinel.

    Args:
        sentinel: "host:port", (host, port), or a URL if it has a password of its own.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(sentinel, tuple) and len(sentinel) == 2:
        host, port = sentinel
        sentinel = f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    if not sentinel or isinstance(sentinel, tuple):
        raise ValueError(f'a sentinel is "host:port" or (host, port), not {sentinel!r}')
    return Address(sentinel if "://" in sentinel else f"redis://{sentinel}", port=SENTINEL_PORT)


def addresses(
    url: str | None, sentinels: Sequence[str | tuple[str, int]], service: str | None
) -> tuple[Address, list[Address]]:
    """The server's address, and those of the sentinels that know where it is.

    Raises:
        ValueError: neither or both are given, or something that is not an address.
    """
    if isinstance(sentinels, str):
        raise ValueError(f'sentinels is a list: write ["{sentinels}"]')
    if not sentinels:
        if url is None:
            raise ValueError(f"RedisEngine needs a URL ({FORMS}), or sentinels and the service that they watch over")
        if service is not None:
            raise ValueError("a service is what sentinels watch over: name them too, with sentinels=[...]")
        return Address(url), []
    if not service:
        raise ValueError('with sentinels, name the service that they watch over, as in service="mymaster"')
    address = Address("redis://" if url is None else url, hostless=True)
    if address.location is not None:
        raise ValueError(
            "sentinels name the host: with them, a URL has only a password and a database, as in redis://:pw@/0"
        )
    return address, [sentinel_address(sentinel) for sentinel in sentinels]
