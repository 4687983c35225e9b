"""HTTP/1.1 served on asyncio: what the Engine API needs of it and no more. Knows no route and no resource.

    head.py        bytes of a request's head -> Head; pure
    body.py        bytes of a body -> payload, by length or by chunks; pure, and the reader that a handler awaits
    request.py     Request: what a handler is given
    response.py    Response, StreamResponse: what it answers
    connection.py  one client's connection: the only one who owns a transport
    tls.py         TLS below a connection, each direction ended by itself
    server.py      listening sockets, shutdown

A general framework (routes, clients, cookies, WebSocket) costs an idle daemon 11 MB and twice the time of a short
request; the decision is docs/adr/0003.
"""

from rorqual.daemon.web.request import Request
from rorqual.daemon.web.response import Response, StreamResponse
from rorqual.daemon.web.server import Server

__all__ = ["Request", "Response", "Server", "StreamResponse"]
