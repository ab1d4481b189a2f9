"""launchdarkly-eventsource with the strategy that its documentation has for coming back: `always_continue`."""

import sys

from ld_eventsource import SSEClient
from ld_eventsource.config import ErrorStrategy
from printing import show

client = SSEClient(sys.argv[1], error_strategy=ErrorStrategy.always_continue())
for event in client.events:
    show(event.event, event.data, event.last_event_id)
