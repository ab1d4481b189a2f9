"""sseclient-py on requests, as its README has it."""

import sys

import requests
import sseclient
from printing import show

response = requests.get(sys.argv[1], stream=True, headers={"Accept": "text/event-stream"})
for event in sseclient.SSEClient(response).events():
    show(event.event, event.data, event.id)
