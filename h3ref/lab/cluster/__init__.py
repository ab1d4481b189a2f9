"""`h3ref demo --cluster`: a chat room in several processes, whose servers and Redis come and go meanwhile.

`programs` starts Redis, nginx and servers, `scene` is what happens to them, `people` chat meanwhile, and `chart` draws
a timeline from what all processes have recorded.
"""

from __future__ import annotations

from .programs import Failed, Missing
from .scene import demo

__all__ = ["Failed", "Missing", "demo"]
