"""What is told of connections that fail: Go's words."""

import errno
import socket
import ssl

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from rorqual.distribution.errors import Transient, of_connection

KEY = ConnectionKey("r.test", 443, True, True, None, None, None, "r.test")


def alert(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (alert("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "remote error: tls: certificate required"),
        (alert("SSLV3_ALERT_BAD_CERTIFICATE"), "remote error: tls: bad certificate"),
        (alert("TLSV1_ALERT_UNKNOWN_CA"), "remote error: tls: unknown certificate authority"),
        (alert("SOME_OTHER_REASON"), "remote error: tls: some other reason"),
        (alert("WRONG_VERSION_NUMBER"), "http: server gave HTTP response to HTTPS client"),
        (
            aiohttp.ClientConnectorSSLError(KEY, alert("SSLV3_ALERT_HANDSHAKE_FAILURE")),
            "remote error: tls: handshake failure",
        ),
        (
            aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(socket.EAI_NONAME, "Name or service not known")),
            "dial tcp: lookup r.test: no such host",
        ),
        (
            aiohttp.ClientConnectorError(
                KEY, socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
            ),
            "dial tcp: lookup r.test: Temporary failure in name resolution",
        ),
        (
            aiohttp.ClientConnectorError(KEY, OSError(errno.EHOSTUNREACH, "x")),
            "dial tcp r.test:443: connect: no route to host",
        ),
        (
            aiohttp.ClientProxyConnectionError(KEY, OSError(errno.ECONNREFUSED, "x")),
            "proxyconnect tcp: dial tcp r.test:443: connect: connection refused",
        ),
    ],
)
def test_what_stays_as_it_is_is_told_at_once(error: BaseException, text: str) -> None:
    told = of_connection(error, "GET", "https://r.test/v2/", "r.test")
    assert str(told) == f'Get "https://r.test/v2/": {text}' and not isinstance(told, Transient)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (aiohttp.ServerDisconnectedError(), "EOF"),
        (aiohttp.ClientPayloadError("cut"), "unexpected EOF"),
        (aiohttp.ConnectionTimeoutError(), "dial tcp r.test: i/o timeout"),
        (aiohttp.ClientOSError(errno.ECONNRESET, "x"), "read tcp r.test: read: connection reset by peer"),
    ],
)
def test_what_may_heal_is_tried_again(error: BaseException, text: str) -> None:
    told = of_connection(error, "PUT", "https://r.test/v2/", "r.test")
    assert str(told) == f'Put "https://r.test/v2/": {text}' and isinstance(told, Transient)
