"""Bearer tokens: fetched from the realm that a registry names, kept until they expire.

Source: distribution docs "Token Authentication Specification" (GET) and "OAuth2 Token Authentication" (POST).
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlencode, urlsplit

from rorqual.distribution.challenge import Challenge
from rorqual.distribution.credentials import Credentials
from rorqual.distribution.errors import RegistryError
from rorqual.errdefs import InvalidArgument

_CLIENT_ID = "docker"
# The specification's minimum and default.
_DEFAULT_LIFE_S = 60
# Renewed so long before it ends that a request still on its way stays valid.
_LEEWAY_S = 10
_MAX_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes


class TokenTransport(Protocol):
    """What this module needs of HTTP."""

    async def exchange(self, method: str, url: str, headers: dict[str, str], body: bytes | None) -> Answer:
        """One request without authentication of its own, redirects not followed. Raises: Unavailable."""


@dataclass(frozen=True, slots=True)
class _Key:
    realm: str
    service: str
    scope: str
    credentials: Credentials


class TokenCache:
    """All tokens of one process; concurrent callers for the same scope share one request."""

    def __init__(self, transport: TokenTransport) -> None:
        self._transport = transport
        self._tokens: dict[_Key, tuple[str, float]] = {}
        self._locks: dict[_Key, asyncio.Lock] = {}

    async def get(
        self, challenge: Challenge, scope: str, credentials: Credentials, *, secure: bool, refused: str = ""
    ) -> str:
        """A token for `scope`; never `refused`, the one that the registry has just turned down.

        With `secure` (the registry was reached by verified TLS), a realm without TLS gets no credentials.

        Raises: RegistryError, InvalidArgument, Unavailable.
        """
        if credentials.registry_token:
            return credentials.registry_token
        realm = challenge.parameters.get("realm", "")
        _check_realm(realm, secure)
        key = _Key(realm, challenge.parameters.get("service", ""), scope, credentials)
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            token, expires = self._tokens.get(key, ("", 0.0))
            if token and token != refused and time.monotonic() < expires:
                return token
            token, life_s = await self._fetch(key)
            self._store(key, token, time.monotonic() + life_s - min(_LEEWAY_S, life_s / 2))
            return token

    async def identity(self, challenge: Challenge, credentials: Credentials, *, secure: bool) -> str:
        """The refresh token that stands for a name and password from now on; "" when the server gives none.

        Raises: as `get`.
        """
        realm = challenge.parameters.get("realm", "")
        _check_realm(realm, secure)
        service = challenge.parameters.get("service", "")
        query = [("service", service)] if service else []
        query += [("account", credentials.username), ("client_id", _CLIENT_ID), ("offline_token", "true")]
        separator = "&" if urlsplit(realm).query else "?"
        headers = {"Authorization": credentials.basic} if credentials.basic else {}
        answer = await self._transport.exchange("GET", realm + separator + urlencode(query), headers, None)
        if answer.status in (404, 405):
            return ""  # a server that speaks OAuth2 only; the password was accepted already
        _token_of(answer, realm)
        try:
            found = json.loads(answer.body).get("refresh_token")
        except (ValueError, AttributeError, RecursionError):
            return ""
        return found if isinstance(found, str) and found.isprintable() else ""

    def _store(self, key: _Key, token: str, expires: float) -> None:
        if len(self._tokens) >= _MAX_TOKENS:
            now = time.monotonic()
            for old in [k for k, (_, end) in self._tokens.items() if end <= now] or [next(iter(self._tokens))]:
                del self._tokens[old]
                lock = self._locks.get(old)
                if lock is not None and not lock.locked():
                    del self._locks[old]
        self._tokens[key] = (token, expires)

    async def _fetch(self, key: _Key) -> tuple[str, float]:
        credentials = key.credentials
        if credentials.identity_token:
            grant = {"grant_type": "refresh_token", "refresh_token": credentials.identity_token}
            return await self._post(key, grant)
        query = [("service", key.service)] if key.service else []
        query += [("scope", part) for part in key.scope.split() if part]
        if credentials.username:
            query.append(("account", credentials.username))
        headers = {"Authorization": credentials.basic} if credentials.basic else {}
        separator = "&" if urlsplit(key.realm).query else "?"
        url = key.realm + separator + urlencode(query) if query else key.realm
        answer = await self._transport.exchange("GET", url, headers, None)
        if answer.status in (404, 405) and credentials.username:
            # Servers that only speak OAuth2.
            grant = {"grant_type": "password", "username": credentials.username, "password": credentials.password}
            return await self._post(key, grant)
        return _token_of(answer, key.realm)

    async def _post(self, key: _Key, grant: dict[str, str]) -> tuple[str, float]:
        form = {**grant, "service": key.service, "client_id": _CLIENT_ID, "scope": key.scope}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = await self._transport.exchange("POST", key.realm, headers, urlencode(form).encode())
        return _token_of(answer, key.realm)


def _check_realm(realm: str, secure: bool) -> None:
    parts = urlsplit(realm)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise InvalidArgument(f"invalid realm {realm[:200]!r} in the registry's authentication challenge")
    if secure and parts.scheme != "https":
        raise InvalidArgument(f"the registry asks for credentials to be sent unencrypted to {realm[:200]!r}: refused")


def _token_of(answer: Answer, realm: str) -> tuple[str, float]:
    """The token and its life in seconds. Raises: RegistryError."""
    if answer.status in (401, 403):
        message = _message_of(answer.body)
        code = "UNAUTHORIZED" if answer.status == 401 else "DENIED"
        default = "incorrect username or password" if answer.status == 401 else "requested access is denied"
        raise RegistryError(code, message or default, answer.status)
    if answer.status != 200:
        raise RegistryError(
            "", f"failed to fetch a token: unexpected status {answer.status} from {realm}", answer.status
        )
    try:
        document = json.loads(answer.body)
        token = document.get("token") or document.get("access_token")
        life = document.get("expires_in") or _DEFAULT_LIFE_S
        if not isinstance(token, str) or not token.isprintable() or not isinstance(life, int | float):
            raise ValueError
    except (ValueError, AttributeError, RecursionError) as error:
        raise RegistryError("", f"authorization server {realm} did not include a token in the response", 502) from error
    # Shorter lives come from servers that mean the default.
    return token, max(float(life), float(_DEFAULT_LIFE_S))


def _message_of(body: bytes) -> str:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    found = document.get("details") or document.get("error_description") if isinstance(document, dict) else None
    return found if isinstance(found, str) else ""
