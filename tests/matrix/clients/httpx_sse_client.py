"""httpx-sse, as its README has it; with redirects, and without httpx's limit of 5 s between two reads."""

import sys

import httpx
from httpx_sse import connect_sse
from printing import show

with (
    httpx.Client(follow_redirects=True, timeout=httpx.Timeout(10, read=None)) as client,
    connect_sse(client, "GET", sys.argv[1]) as source,
):
    for sse in source.iter_sse():
        show(sse.event, sse.data, sse.id)
