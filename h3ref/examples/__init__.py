"""Examples: H3Z's six, as small programs to read and to run; each module has an `app`.

    python -m h3ref serve h3ref.examples.counter:app

They are tutorials, in this order: minimal, counter, text, chat, proxy; and callback, which shows the bug.
"""
