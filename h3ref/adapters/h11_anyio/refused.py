"""`Refused`: a request that gets an error because it has broken a rule."""

from __future__ import annotations

import h11


class Refused(h11.RemoteProtocolError):
    """A request that gets an error for an answer, and the end of its connection.

    The text is one sentence that says which rule was broken. It holds nothing that the client has sent, so that it
    can stand in a log and in the answer.

    Attributes:
        error_status_hint: the answer's status.
        limit: the name in `Limits` of the limit that was the reason; None if it was none.
    """

    def __init__(self, status: int, rule: str, limit: str | None = None) -> None:
        super().__init__(rule, error_status_hint=status)
        self.limit = limit
