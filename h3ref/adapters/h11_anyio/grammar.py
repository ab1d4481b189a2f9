"""The grammar of a request in bytes (RFC 9112, where no other RFC is named), as functions that match it."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

Bytes = bytes | bytearray

# Only a set of bytes is repeated possessively here, never a group: after a group that failed half-way, CPython 3.11.2,
# which is Debian 12's, goes on in the wrong place, and takes what the pattern does not allow. So a group that is
# repeated begins with a byte that nothing before it could take: going back finds no second way, and costs no more than
# the way there.
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"  # RFC 9110, section 5.6.2
_REQUEST_LINE = rb"(%b) ([\x21-\x7e]++) HTTP/([0-9]\.[0-9])" % _TOKEN  # section 3
_FIELD = _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*+"  # section 5; RFC 9110, section 5.5

_QUOTED_TEXT = rb"[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]*+"
_QUOTED = rb'"%b(?:\\[\t\x20-\x7e\x80-\xff]%b)*"' % (_QUOTED_TEXT, _QUOTED_TEXT)  # RFC 9110, section 5.6.4
_EXTENSION = rb";[\t ]*+%b(?:=(?:%b|%b))?" % (_TOKEN, _TOKEN, _QUOTED)

_NAME = rb"[a-z0-9\-._~!$&'()*+,;=]*+"
_HOST = (  # RFC 3986, section 3.2.2, in lower case, then section 3.2.3
    rb"(?:\[[0-9a-f:.]++\]|\[v[0-9a-f]++\.[a-z0-9\-._~!$&'()*+,;=:]++\]|%b(?:%%[0-9a-f]{2}%b)*)(?::[0-9]*+)?"
    % (_NAME, _NAME)
)


@cache
def head_matcher(headers: int) -> Callable[[Bytes], re.Match[bytes] | None]:
    """Make a matcher for a well-formed head with at most this many headers: the pattern counts at no cost."""
    return re.compile(rb"(?!CONNECT )%b\r\n(?:%b\r\n){0,%d}\r\n" % (_REQUEST_LINE, _FIELD, headers)).match


line_end = re.compile(rb"[\r\n]").search
token = re.compile(_TOKEN).match
control = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search

request_line = re.compile(_REQUEST_LINE).fullmatch
field_line = re.compile(_FIELD).fullmatch
trailer_line = re.compile(_FIELD + rb"\r\n").fullmatch
chunk_line = re.compile(rb"([0-9A-Fa-f]{1,16})(?:%b)*\r\n" % _EXTENSION).fullmatch  # section 7.1

framing_fields = re.compile(rb"\r\n(host|content-length|transfer-encoding):[\t ]*+([^\r]*+)").findall
"""The names and values of those fields of a head, in lower case, that decide where it leads and where it ends."""

host = re.compile(_HOST).fullmatch
"""Matches the value of Host, or an authority without its user, in lower case."""

absolute_form = re.compile(rb"[a-z][a-z0-9+.-]*+://(?:[^/?#@]*+@)?([^/?#]*+)").match
"""Matches a target in absolute form, in lower case, and finds its host."""
