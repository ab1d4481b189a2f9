"""httpx-sse, as its README has it, which looks at the status by `raise_for_status`.

With redirects, and without httpx's limit of 5 s between two reads.
"""

import sys

import httpx
from httpx_sse import connect_sse
from printing import show

with (
    httpx.Client(follow_redirects=True, timeout=httpx.Timeout(10, read=None)) as client,
    connect_sse(client, "GET", sys.argv[1]) as source,
):
    source.response.raise_for_status()
    for sse in source.iter_sse():
        show(sse.event, sse.data, sse.id)
