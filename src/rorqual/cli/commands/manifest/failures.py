"""Why a registry could not be reached, in the words of Go's net and crypto/tls, which Docker's users know."""

from __future__ import annotations

import http.client
import os
import socket
import ssl


def text_of(error: BaseException, host: str, scheme: str) -> str:
    """What follows `Get "https://host/…": `. `host` is `name[:port]`."""
    name, port = _split(host, 443 if scheme == "https" else 80)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: x509: {_certificate(error)}"
    if isinstance(error, ssl.SSLError):
        if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
            return "http: server gave HTTP response to HTTPS client"
        return f"remote error: tls: {(error.reason or str(error)).lower().replace('_', ' ')}"
    if isinstance(error, socket.gaierror):
        told = error.strerror if error.errno == socket.EAI_AGAIN else "no such host"
        return f"dial tcp: lookup {name}: {told}"
    if isinstance(error, TimeoutError):
        return f"dial tcp {name}:{port}: i/o timeout"
    if isinstance(error, http.client.RemoteDisconnected):
        return "EOF"
    if isinstance(error, OSError) and error.errno:
        told = os.strerror(error.errno)
        told = told[:1].lower() + told[1:]
        if isinstance(error, ConnectionResetError | BrokenPipeError):
            return f"read tcp {name}:{port}: read: {told}"
        return f"dial tcp {name}:{port}: connect: {told}"
    if isinstance(error, http.client.HTTPException):
        return f"malformed HTTP response: {error}"
    return str(error)


def _split(host: str, default: int) -> tuple[str, int]:
    name, colon, port = host.rpartition(":")
    if colon and port.isdecimal() and not host.endswith("]"):
        return name, int(port)
    return host, default


def _certificate(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == 10:
        return "certificate has expired or is not yet valid"
    if error.verify_code in (62, 63, 64):
        return f"certificate is not valid for this name: {error.verify_message}"
    return "certificate signed by unknown authority"
