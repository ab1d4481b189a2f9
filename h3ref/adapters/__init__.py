"""Adapters carry bytes for a flow. None of them decides an order.

Here is what the author of an adapter needs: the port to implement, and the service that takes each request.
"""

from .._core.exchange import Flow
from .._core.service import Service
from ..connection import (
    Connection,
    End,
    Group,
    RawHeaders,
    Request,
    Response,
    Sharing,
    StreamHead,
    Transport,
)
from ..flows import check_flow

__all__ = [
    "Connection",
    "End",
    "Flow",
    "Group",
    "RawHeaders",
    "Request",
    "Response",
    "Service",
    "Sharing",
    "StreamHead",
    "Transport",
    "check_flow",
]
