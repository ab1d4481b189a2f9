"""The judge of clients: plays streams and scenes to a client, and looks at its requests and its output.

`judge_client` holds a client to the checks; `Program` is one that is a command.
"""

from .judge import LIMIT, NoClient, judge_client
from .program import Client, NotAMessage, Program, Take
from .vectors import Message

__all__ = ["LIMIT", "Client", "Message", "NoClient", "NotAMessage", "Program", "Take", "judge_client"]
