"""h3ref's own `BlockingEventSource`, as docs/how-to/receive.md has it."""

import sys

from printing import show

from h3ref import BlockingEventSource

with BlockingEventSource(sys.argv[1]) as source:
    for message in source:
        show(message.type, message.data, message.last_event_id)
