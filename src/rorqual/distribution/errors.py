"""What registries and connections answer, as errors of ours with the texts Docker's users know.

Source: distribution-spec "Error Codes"; moby daemon/internal/distribution (texts of a pull); Go's net and crypto/tls
(texts of a connection that fails).
"""

from __future__ import annotations

import errno
import json
import os
import socket
import ssl

from rorqual.distribution.challenge import Challenge
from rorqual.errdefs import Error, InvalidArgument, NotFound, PermissionDenied, Unauthenticated, Unavailable
from rorqual.oci.reference import Reference

_DEFAULT_MESSAGES = {
    "UNAUTHORIZED": "authentication required",
    "DENIED": "requested access to the resource is denied",
    "MANIFEST_UNKNOWN": "manifest unknown",
    "NAME_UNKNOWN": "repository name not known to registry",
    "BLOB_UNKNOWN": "blob unknown to registry",
    "TOOMANYREQUESTS": "too many requests",
}
_STATUS_CODES = {401: "UNAUTHORIZED", 403: "DENIED", 429: "TOOMANYREQUESTS"}


class Transient(Unavailable):
    """Trying again may help; `retry_after_s` when the peer said when."""

    retry_after_s: float | None = None


class RegistryError(Error):
    """What a registry answered: `code` as in the specification, `status` of HTTP. Never leaves this package."""

    def __init__(self, code: str, message: str, status: int) -> None:
        self.code = code
        self.status = status
        super().__init__(f"{code.lower().replace('_', ' ')}: {message}" if code else message)


def of_response(status: int, body: bytes, challenges: list[Challenge], url: str, method: str = "GET") -> RegistryError:
    """The error that a response with `status` and the first bytes of `body` tells."""
    for challenge in challenges:
        problem = challenge.parameters.get("error")
        if problem == "insufficient_scope":
            return RegistryError("DENIED", _DEFAULT_MESSAGES["DENIED"], status)
        if problem == "invalid_token":
            return RegistryError("UNAUTHORIZED", _DEFAULT_MESSAGES["UNAUTHORIZED"], status)
    code, message = _first_error(body)
    code = code or _STATUS_CODES.get(status, "")
    if code:
        return RegistryError(code, message or _DEFAULT_MESSAGES.get(code, "unknown error"), status)
    text = f"unexpected status from {method} request to {url}: {status}"
    return RegistryError("", f"{text}: {message}" if message else text, status)


def _first_error(body: bytes) -> tuple[str, str]:
    """Code and message of the first error in a registry's JSON, or what a token server's JSON says."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(document, dict):
        return "", ""
    errors = document.get("errors")
    if isinstance(errors, list) and errors and isinstance(errors[0], dict):
        code, message = errors[0].get("code"), errors[0].get("message")
        return (code if isinstance(code, str) else ""), (message if isinstance(message, str) else "")
    details = document.get("details")
    return "", details if isinstance(details, str) else ""


def of_pull(error: RegistryError, reference: Reference) -> Error:
    """What the user of a pull is told."""
    if error.code == "DENIED":
        return NotFound(
            f"pull access denied for {reference.familiar_name}, repository does not exist or may require "
            f"'docker login': {error}"
        )
    if error.code == "MANIFEST_UNKNOWN" or (error.status == 404 and not error.code):
        cause = error if error.code else "manifest unknown: manifest unknown"
        return NotFound(f"manifest for {reference.familiar} not found: {cause}")
    if error.code == "NAME_UNKNOWN":
        return NotFound(f"repository {reference.familiar_name} not found: {error}")
    if error.code == "UNAUTHORIZED":
        return Unauthenticated(str(error))
    if error.code == "TOOMANYREQUESTS" or error.status >= 500:
        return Unavailable(str(error))
    return NotFound(str(error)) if error.status == 404 else InvalidArgument(str(error))


def of_push(error: RegistryError) -> Error:
    """What the user of a push is told."""
    if error.code == "UNAUTHORIZED":
        return Unauthenticated(str(error))
    if error.code == "DENIED":
        return PermissionDenied(str(error))
    if error.code == "TOOMANYREQUESTS" or error.status >= 500:
        return Unavailable(str(error))
    return NotFound(str(error)) if error.status == 404 else InvalidArgument(str(error))


def of_connection(error: BaseException, method: str, url: str, host: str) -> Error:
    """`Get "https://host/v2/": dial tcp …`: what kept the request from being answered.

    Transient for what may go away by itself within seconds.
    """
    import aiohttp  # see transport

    text = f'{method.capitalize()} "{url}": '
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        return Unavailable(text + _certificate_text(error))
    if (alert := _tls_failure(error)) is not None:
        return Unavailable(text + alert)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return Unavailable(text + f"proxyconnect tcp: {error.status} {error.message}")
    if isinstance(error, aiohttp.ClientConnectorError):
        proxy = "proxyconnect tcp: " if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
        return Unavailable(text + proxy + _dial_text(error.os_error, error.host, error.port))
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Transient(text + f"dial tcp {host}: i/o timeout")
    if isinstance(error, TimeoutError):
        return Transient(text + f"net/http: request canceled: timeout awaiting {host}")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return Transient(text + "EOF")
    if isinstance(error, aiohttp.ClientPayloadError):
        return Transient(text + "unexpected EOF")
    if isinstance(error, aiohttp.InvalidURL):
        return InvalidArgument(text + "invalid URL")
    if isinstance(error, OSError) and error.errno:
        return Transient(text + f"read tcp {host}: read: {_errno_text(error.errno)}")
    return Transient(text + (str(error) or type(error).__name__))


def _dial_text(cause: OSError, host: str, port: int | None) -> str:
    if isinstance(cause, socket.gaierror):
        told = cause.strerror if cause.errno == socket.EAI_AGAIN else "no such host"
        return f"dial tcp: lookup {host}: {told}"
    return f"dial tcp {host}:{port}: connect: {_errno_text(cause.errno or errno.EIO)}"


# OpenSSL's names of alerts, and what Go calls them (crypto/tls alert.go).
_ALERTS = {
    "CERTIFICATE_REQUIRED": "certificate required",
    "BAD_CERTIFICATE": "bad certificate",
    "UNKNOWN_CA": "unknown certificate authority",
    "CERTIFICATE_EXPIRED": "expired certificate",
    "CERTIFICATE_UNKNOWN": "unknown certificate",
    "HANDSHAKE_FAILURE": "handshake failure",
    "PROTOCOL_VERSION": "protocol version not supported",
    "ACCESS_DENIED": "access denied",
    "INTERNAL_ERROR": "internal error",
    "UNRECOGNIZED_NAME": "unrecognized name",
}


def _tls_failure(error: BaseException) -> str | None:
    """Of a connection that TLS ended; None for others. aiohttp hands some of them on as plain errors of the socket."""
    import aiohttp

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, aiohttp.ClientConnectorError):
            cause = cause.os_error  # one of its kinds is an SSLError too, without a reason
        elif isinstance(cause, ssl.SSLError):
            break
        else:
            cause = cause.__cause__
    if cause is None:
        return None
    reason = cause.reason or str(cause)
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
        return "http: server gave HTTP response to HTTPS client"
    _, separator, alert = reason.partition("_ALERT_")
    told = _ALERTS.get(alert) if separator else None
    return f"remote error: tls: {told or reason.lower().replace('_', ' ')}"


def _errno_text(number: int) -> str:
    text = os.strerror(number)
    return text[:1].lower() + text[1:]


def _certificate_text(error: BaseException) -> str:
    cause = getattr(error, "certificate_error", error)
    code = getattr(cause, "verify_code", 0)
    if code == 10:
        reason = "certificate has expired or is not yet valid"
    elif code in (62, 63, 64):
        reason = f"certificate is not valid for this name: {getattr(cause, 'verify_message', '')}"
    else:
        reason = "certificate signed by unknown authority"
    return f"tls: failed to verify certificate: x509: {reason}"
