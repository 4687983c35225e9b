"""A registry as `manifest` needs it: manifests read and put, blobs mounted. Synchronous; one connection at a time.

The engine has no call for raw manifests, so this client asks registries itself, as the docker CLI does. Source:
distribution-spec; distribution docs "Token Authentication Specification".
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import ssl
from urllib.parse import unquote, urlencode, urljoin, urlsplit

from rorqual.cli.commands.manifest import failures
from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any
    from urllib.parse import SplitResult

    from rorqual.oci.reference import Reference

    JSON = dict[str, Any]

_ACCEPT = ", ".join(
    (
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
    )
)
_MAX_BYTES = 16 << 20
_TIMEOUT_S = 30.0
_PARAMETER = re.compile(r'([A-Za-z0-9_-]+)="([^"]*)"')
_HUB = "registry-1.docker.io"


def _proxy(parts: SplitResult) -> tuple[str, dict[str, str]]:
    """`host:port` of the environment's proxy for an address, with the headers that log in there; "" for none."""
    from urllib.request import getproxies, proxy_bypass

    found = getproxies().get(parts.scheme, "")
    host = parts.hostname or ""
    if not found or host == "localhost" or host.startswith("127.") or host == "::1" or proxy_bypass(host):
        return "", {}
    proxy = urlsplit(found if "://" in found else f"http://{found}")
    if proxy.scheme != "http":
        raise CommandError(f"proxy {proxy.hostname}: only proxies that are spoken to in http are supported here")
    login = {}
    if proxy.username is not None:
        pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        login["Proxy-Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    return f"{proxy.hostname}:{proxy.port or 80}", login


class Answer:
    """A response, read to its end."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: http.client.HTTPMessage, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def message(self) -> str:
        """What the registry says went wrong."""
        try:
            error = json.loads(self.body)["errors"][0]
            return f"{error['code'].lower().replace('_', ' ')}: {error.get('message', '')}"
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return f"unexpected status {self.status}"


class Registry:
    """The registry of a domain. `auth`: the AuthConfig of the user there, {} for none."""

    def __init__(self, domain: str, auth: JSON, *, insecure: bool) -> None:
        self._host = _HUB if domain == "docker.io" else domain
        self._auth = auth
        name = self._host.rpartition(":")[0] or self._host
        loopback = name in ("localhost", "[::1]") or name.startswith("127.")
        self._schemes = ("https", "http") if insecure or loopback else ("https",)
        self._verify = not (insecure or loopback)
        self._token = ""
        self._reached = False

    # ---- what commands ask ----

    def manifest(self, reference: Reference) -> tuple[bytes, str]:
        """Bytes and media type of a manifest or index, its digest checked. Raises: CommandError."""
        target = reference.digest or reference.tag or ""
        answer = self._ask("GET", f"/v2/{reference.path}/manifests/{target}", reference.path, {"Accept": _ACCEPT})
        if answer.status == 404:
            raise CommandError(f"no such manifest: {reference.familiar}")
        if answer.status != 200:
            raise CommandError(answer.message())
        if reference.digest and f"sha256:{hashlib.sha256(answer.body).hexdigest()}" != reference.digest:
            raise CommandError(f"manifest verification failed for digest {reference.digest}")
        return answer.body, answer.headers.get("Content-Type", "").partition(";")[0].strip()

    def blob(self, path: str, digest: str, max_bytes: int = _MAX_BYTES) -> bytes:
        """A small blob, checked. Raises: CommandError."""
        answer = self._ask("GET", f"/v2/{path}/blobs/{digest}", path, {})
        if answer.status in (301, 302, 303, 307, 308):
            answer = self._send("GET", urljoin(self._base(), answer.headers.get("Location", "")), {}, None)
        if answer.status != 200 or len(answer.body) > max_bytes:
            raise CommandError(answer.message())
        if f"sha256:{hashlib.sha256(answer.body).hexdigest()}" != digest:
            raise CommandError(f"blob verification failed for digest {digest}")
        return answer.body

    def put(self, path: str, target: str, raw: bytes, media_type: str) -> str:
        """Stores a manifest as `target` (tag or digest); its digest. Raises: CommandError."""
        answer = self._ask("PUT", f"/v2/{path}/manifests/{target}", path, {"Content-Type": media_type}, raw)
        if answer.status != 201:
            raise CommandError(answer.message())
        return f"sha256:{hashlib.sha256(raw).hexdigest()}"

    def mount(self, path: str, digest: str, source: str) -> None:
        """Makes a blob of the repository `source` one of `path` too. Raises: CommandError when that is not possible."""
        if self._ask("HEAD", f"/v2/{path}/blobs/{digest}", path, {}).status == 200:
            return
        query = urlencode({"mount": digest, "from": source})
        answer = self._ask("POST", f"/v2/{path}/blobs/uploads/?{query}", path, {}, b"", source)
        if answer.status != 201:
            raise CommandError(f"mount of blob {digest} from {source} to {path} failed: {answer.message()}")

    # ---- requests ----

    def _base(self) -> str:
        return f"{self._schemes[0]}://{self._host}"

    def _ask(
        self,
        method: str,
        path: str,
        repository: str,
        headers: dict[str, str],
        body: bytes | None = None,
        source: str = "",
    ) -> Answer:
        sent = dict(headers)
        if self._token:
            sent["Authorization"] = self._token
        answer = self._anyhow(method, path, sent, body)
        if answer.status == 401:
            authorization = self._authorization(answer, repository, source)
            if authorization:
                self._token = sent["Authorization"] = authorization
                answer = self._anyhow(method, path, sent, body)
        return answer

    def _anyhow(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Answer:
        """By the first scheme that works, which is kept."""
        told = ""
        for scheme in self._schemes:
            try:
                answer = self._send(method, f"{scheme}://{self._host}{path}", headers, body)
            except (OSError, http.client.HTTPException) as e:
                failure, text = e, failures.text_of(e, self._host, scheme)
                # The docker CLI begins with a ping of its own, by the first scheme.
                ping = f'failed to configure transport: error pinging v2 registry: Get "{scheme}://{self._host}/v2/"'
                at = f'{method.title()} "{scheme}://{self._host}{path}"' if self._reached else ping
                told = told or f"{at}: {text}"
                continue
            self._schemes, self._reached = (scheme,), True
            return answer
        raise CommandError(told) from failure

    def _send(self, method: str, url: str, headers: dict[str, str], body: bytes | None) -> Answer:
        parts = urlsplit(url)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        proxy, login = _proxy(parts)
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context()
            if not self._verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            connection = http.client.HTTPSConnection(proxy or parts.netloc, timeout=_TIMEOUT_S, context=context)
            if proxy:
                connection.set_tunnel(parts.hostname or "", parts.port or 443, login)
        else:
            connection = http.client.HTTPConnection(proxy or parts.netloc, timeout=_TIMEOUT_S)
            if proxy:
                target, headers = url, {**headers, **login}
        try:
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            data = response.read(_MAX_BYTES + 1)
            if len(data) > _MAX_BYTES:
                raise CommandError(f"{url}: more than {_MAX_BYTES} bytes")
            return Answer(response.status, response.headers, data)
        finally:
            connection.close()

    def _authorization(self, refused: Answer, repository: str, source: str) -> str:
        """What answers the challenge, "" when nothing does. Raises: CommandError."""
        challenge = refused.headers.get("WWW-Authenticate", "")
        user, password = self._auth.get("username", ""), self._auth.get("password", "")
        basic = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""
        if challenge.lower().startswith("basic"):
            return basic
        parameters = dict(_PARAMETER.findall(challenge))
        realm = parameters.get("realm", "")
        if not challenge.lower().startswith("bearer") or not realm.startswith(("https://", "http://")):
            return ""
        if self._verify and not realm.startswith("https://"):
            raise CommandError(f"the registry asks for credentials to be sent unencrypted to {realm}: refused")
        query = [("service", parameters.get("service", "")), ("scope", f"repository:{repository}:pull,push")]
        if source:
            query.append(("scope", f"repository:{source}:pull"))
        url = realm + ("&" if "?" in realm else "?") + urlencode(query)
        answer = self._send("GET", url, {"Authorization": basic} if basic else {}, None)
        try:
            document = json.loads(answer.body)
            token = document.get("token") or document.get("access_token") or ""
        except (ValueError, AttributeError):
            token = ""
        if not token:
            raise CommandError(f"{self._host}: no token: {answer.message()}")
        return f"Bearer {token}"
