"""launchdarkly-eventsource, as its documentation has it: its defaults."""

import sys

from ld_eventsource import SSEClient
from printing import show

client = SSEClient(sys.argv[1])
for event in client.events:
    show(event.event, event.data, event.last_event_id)
