"""What the judge wants of a client written in Python: a line of JSON for each message, at once."""

import json


def show(event: object, data: object, id: object = None) -> None:
    print(json.dumps({"event": event, "data": data, "id": id}), flush=True)
