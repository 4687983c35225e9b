"""Plugins by Docker's protocol: a process that listens on a socket and answers POSTs of JSON. Finding and calling them.

    <name>.sock   in /run/docker/plugins: a Unix socket
    <name>.spec   in /etc/docker/plugins, /usr/lib/docker/plugins: one line, unix:///path or tcp://host:port
    <name>.json   there too: {"Addr": "unix://..."}; TLS settings are not supported

The first call, /Plugin.Activate, says what a plugin is: {"Implements": ["NetworkDriver", "IpamDriver", ...]}. An answer
with "Err" is a refusal. Used by the engine's thread, which waits for the plugin: it gets `TIMEOUT_S` to answer.

Source: https://docs.docker.com/engine/extend/plugin_api/, moby pkg/plugins/discovery.go.
"""

from __future__ import annotations

import json
import os
import re
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rorqual import errdefs

if TYPE_CHECKING:
    from http.client import HTTPConnection  # at run time with the first plugin: 1.2 MB, with `email`

SOCKETS = ("/run/docker/plugins",)
SPECS = ("/etc/docker/plugins", "/usr/lib/docker/plugins")
TIMEOUT_S = 10.0
_ANSWER_MAX = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}")


class Plugin:
    """One that answered to its name. `implements` are the protocols it speaks."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self._address = name, address
        self.implements: frozenset[str] = frozenset()

    def activate(self) -> None:
        """Raises errdefs.Unavailable when it does not answer."""
        answer = self.call("Plugin.Activate", {})
        names = answer.get("Implements")
        self.implements = frozenset(map(str, names)) if isinstance(names, list) else frozenset()

    def call(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer's JSON. Raises errdefs.Unavailable when there is none, Internal when the plugin refuses."""
        from http.client import HTTPException

        try:
            connection = self._connection()
            try:
                headers = {"Accept": "application/vnd.docker.plugins.v1.2+json", "Content-Type": "application/json"}
                connection.request("POST", f"/{method}", json.dumps(body), headers)
                response = connection.getresponse()
                data = response.read(_ANSWER_MAX)
            finally:
                connection.close()
            answer = json.loads(data) if data.strip() else {}
        except (OSError, ValueError, HTTPException) as error:
            raise errdefs.Unavailable(f"plugin {self.name} does not answer {method}: {error}") from error
        if not isinstance(answer, dict):
            raise errdefs.Unavailable(
                f"plugin {self.name} answers {method} with {type(answer).__name__}, not an object"
            )
        refusal = answer.get("Err") or answer.get("Error") or ""
        if refusal or response.status >= 400:
            raise errdefs.Internal(f"{method}: {refusal or response.reason}")
        return answer

    def _connection(self) -> HTTPConnection:
        from http.client import HTTPConnection

        parts = urlsplit(self._address)
        if parts.scheme == "unix":
            connection = HTTPConnection("plugin", timeout=TIMEOUT_S)
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(TIMEOUT_S)
            try:
                connection.sock.connect(parts.path)
            except OSError:
                connection.close()
                raise
            return connection
        if parts.scheme in ("tcp", "http") and parts.hostname:
            return HTTPConnection(parts.hostname, parts.port or 80, timeout=TIMEOUT_S)
        raise OSError(f"unsupported address {self._address!r}")


def find(name: str, protocol: str) -> Plugin:
    """The plugin of that name, which speaks `protocol`. Raises errdefs.NotFound with Docker's text, Unavailable."""
    address = _address(name) if _NAME.fullmatch(name) else ""
    missing = errdefs.NotFound(f"could not find plugin {name} in v1 plugin registry: plugin not found")
    if not address:
        raise missing
    plugin = Plugin(name, address)
    plugin.activate()
    if protocol not in plugin.implements:
        raise missing
    return plugin


def _address(name: str) -> str:
    for directory in SOCKETS:
        for path in (f"{directory}/{name}.sock", f"{directory}/{name}/{name}.sock"):
            if os.path.exists(path):
                return f"unix://{path}"
    for directory in SPECS:
        for path in (f"{directory}/{name}", f"{directory}/{name}/{name}"):
            text = _read(f"{path}.spec").strip()
            if text:
                return text
            try:
                described = json.loads(_read(f"{path}.json") or "{}")
            except ValueError as error:
                raise errdefs.InvalidArgument(f"plugin file {path}.json: {error}") from error
            if isinstance(described, dict) and described.get("Addr"):
                return str(described["Addr"])
    return ""


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(1 << 16)
    except (FileNotFoundError, NotADirectoryError):
        return ""
