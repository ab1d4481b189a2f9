"""`Task`: what a worker process is told when it starts."""

from __future__ import annotations

import base64
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass

from .lines import Message
from .settings import Settings


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker does.

    Attributes:
        app: "module:app", which it imports.
        settings: its server's settings.
        backend: the event loop.
        host: what its parent was told to listen on.
        path: likewise, where that is a socket in the file system.
        shares: for each worker, the descriptors that it accepts on.
        number: the number of its own share.
        prepare: called before the app is imported.
    """

    app: str
    settings: Settings
    backend: str
    host: str
    path: str
    shares: tuple[tuple[int, ...], ...]
    number: int
    prepare: Callable[[], None] | None

    def message(self) -> Message:
        """The task, for a process that finds modules where this one does.

        Raises:
            ValueError: something in it can't be passed on.
        """
        functions = {"flow": self.settings.flow, "trace": self.settings.trace}
        for name, function in functions.items():
            if getattr(function, "__module__", None) == "__main__":
                raise ValueError(
                    f"{name} is the program's own, which workers don't run: put it into a module that they can import"
                )
        try:
            pickled = pickle.dumps(self)
        except Exception as error:
            raise ValueError(f"it can't be passed on to workers, which are processes of their own: {error}") from error
        return {"modules": sys.path, "task": base64.b64encode(pickled).decode()}

    @staticmethod
    def of(message: Message) -> Task:
        """The task in a message. From now on modules are found where the parent finds them."""
        sys.path[:] = message["modules"]
        task = pickle.loads(base64.b64decode(message["task"]))
        assert isinstance(task, Task)
        return task
