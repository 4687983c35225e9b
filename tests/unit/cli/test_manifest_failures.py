"""What `manifest` tells of a registry that cannot be reached."""

import errno
import http.client
import socket
import ssl

import pytest

from rorqual.cli.commands.manifest.failures import text_of


def tls(kind: type[ssl.SSLError], **fields: object) -> ssl.SSLError:
    error = kind(1, "text of OpenSSL")
    for name, value in fields.items():
        setattr(error, name, value)
    return error


@pytest.mark.parametrize(
    ("error", "host", "text"),
    [
        (socket.gaierror(socket.EAI_NONAME, "x"), "r.test", "dial tcp: lookup r.test: no such host"),
        (socket.gaierror(socket.EAI_AGAIN, "Try again"), "r.test:5000", "dial tcp: lookup r.test: Try again"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "r.test", "dial tcp r.test:443: connect: connection refused"),
        (OSError(errno.ENETUNREACH, "x"), "[::1]:5", "dial tcp [::1]:5: connect: network is unreachable"),
        (ConnectionResetError(errno.ECONNRESET, "x"), "r:5", "read tcp r:5: read: connection reset by peer"),
        (http.client.RemoteDisconnected("x"), "r", "EOF"),
        (TimeoutError("timed out"), "r:5", "dial tcp r:5: i/o timeout"),
        (tls(ssl.SSLError, reason="WRONG_VERSION_NUMBER"), "r", "http: server gave HTTP response to HTTPS client"),
        (
            tls(ssl.SSLCertVerificationError, verify_code=20, verify_message=""),
            "r",
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        ),
        (
            tls(ssl.SSLCertVerificationError, verify_code=10, verify_message=""),
            "r",
            "tls: failed to verify certificate: x509: certificate has expired or is not yet valid",
        ),
    ],
)
def test_the_words_are_gos(error: BaseException, host: str, text: str) -> None:
    assert text_of(error, host, "https") == text
