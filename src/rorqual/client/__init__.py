"""The Engine API library: what the command line and Compose use, and the SDK for anyone's program.

Synchronous, standard library only, and cheap to import (measured: the command line's whole start is under 25 ms), so
nothing here imports dataclasses, typing, http.client or asyncio at run time.

    from rorqual.client import Client
    with Client() as engine:
        for container in engine.containers.list(all=True):
            print(container["Id"])
"""

from rorqual.client.engine import DEFAULT_HOST, Client
from rorqual.client.errors import ConnectionFailed, ProtocolError, ResponseError

__all__ = ["DEFAULT_HOST", "Client", "ConnectionFailed", "ProtocolError", "ResponseError"]
