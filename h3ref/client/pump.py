"""A pump: reads an answer on a thread of its own, so that a thread waiting for its bytes can be woken.

Over HTTP/2 several streams share a socket: a thread that waits on it can't be woken without ending all of them.
"""

from __future__ import annotations

import queue
import threading
from typing import Final

import httpx2

from . import http2

WAKINGS: Final = 40
"""How often a reader is woken before it is given up."""


class Pump:
    """The chunks of an answer's body; one thread takes them, and any thread may close it.

    It reads only when it is asked, and not ahead, so that the server feels a slow reader.
    """

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response
        self._asked: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._got: queue.SimpleQueue[bytes | Exception | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, name="h3ref HTTP/2 reader", daemon=True)
        self._thread.start()

    def __iter__(self) -> Pump:
        return self

    def __next__(self) -> bytes:
        """Wait for the next chunk; there is none once the body has ended or the pump is closed."""
        self._asked.put(True)
        got = self._got.get()
        if got is None:
            raise StopIteration
        if isinstance(got, Exception):
            raise got
        return got

    def wake(self) -> None:
        """End a wait in another thread at once, and all later ones."""
        self._asked.put(False)
        self._got.put(None)

    def close(self) -> None:
        """Tell the server that the stream is over, and give its reader a moment to notice."""
        self.wake()
        http2.abandon(self._response)
        for _ in range(WAKINGS):
            self._thread.join(http2.GOODBYE_SECONDS / WAKINGS)
            if not self._thread.is_alive():
                break
            # Whoever read the answer to the ping may have begun to read again, before the others looked.
            http2.wake(self._response)

    def _read(self) -> None:
        chunks = self._response.iter_bytes()
        try:
            while self._asked.get():
                try:
                    self._got.put(next(chunks, None))
                except Exception as error:  # for whoever waits
                    self._got.put(error)
        finally:
            self._response.close()
