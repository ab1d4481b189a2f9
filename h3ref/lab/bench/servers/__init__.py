"""The measured servers, each in a process of its own: `python -m h3ref.lab.bench.servers MODULE ...`.

All answer the same requests with the same events, each in the way that its own documentation shows:

    GET /subscribers           how many are on /fan, as text
    GET /stream?count=N        N events, as fast as they can be sent; with &yield=1 giving way after each
    GET /first                 one event
    GET /silent                the head, and nothing more
    GET /fan                   the events that are published
    POST /go?count=N&rate=R    publish N events to all on /fan, R a second (0: one after the other)
    POST /end                  end all on /fan

An event has an id, the type "tick" and `work.SIZE` bytes of data, which begin with the time when it was made.
"""
