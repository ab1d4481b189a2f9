"""httpx2's own `sse()`, as its documentation has it, which looks at the status by `raise_for_status`.

With redirects, and without its limit of 5 s between two reads.
"""

import sys

import httpx2
from printing import show

with (
    httpx2.Client(follow_redirects=True, timeout=httpx2.Timeout(10, read=None)) as client,
    client.sse(sys.argv[1]) as source,
):
    source.response.raise_for_status()
    for sse in source:
        show(sse.event, sse.data, sse.id)
