"""Plugins by Docker's protocol: a process that listens on a socket and answers POSTs of JSON. Finding and calling them.

    <name>.sock, <name>/<name>.sock   in /run/docker/plugins: a Unix socket
    <name>.spec, <name>/<name>.spec   in /etc/docker/plugins, /usr/lib/docker/plugins: one line, a path, unix:///path or
                                      tcp://host:port
    <name>.json, <name>/<name>.json   there too: {"Addr": "unix://..."}; TLS settings are not supported

The first call, /Plugin.Activate, says what a plugin is: {"Implements": ["NetworkDriver", "VolumeDriver", ...]}. An
answer with "Err" is a refusal. Everything here blocks, for a call's time limit at most: network plugins are called by
threads of the network controller, volume plugins by threads of the daemon. What each kind of plugin is asked is in the
modules that ask it.

Source: https://docs.docker.com/engine/extend/plugin_api/, moby pkg/plugins/discovery.go.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rorqual import errdefs

if TYPE_CHECKING:
    from http.client import HTTPConnection  # at run time with the first plugin: 1.2 MB, with `email`

SOCKETS = ("/run/docker/plugins",)
SPECS = ("/etc/docker/plugins", "/usr/lib/docker/plugins")
_SPEC_MAX = 1 << 16
_ANSWER_MAX = 4 << 20
_DEPTH_MAX = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:\-]{0,127}")
_HEADERS = {"Accept": "application/vnd.docker.plugins.v1.2+json", "Content-Type": "application/json"}


class Plugin:
    """One process, by its address; it gets `timeout_s` for a whole answer, however it comes."""

    def __init__(self, name: str, address: str, timeout_s: float) -> None:
        self.name, self._address, self._timeout_s = name, address, timeout_s

    def implements(self) -> frozenset[str]:
        """The protocols it speaks; asked for before anything else. Raises as `call`."""
        names = self.call("Plugin.Activate", {}).get("Implements")
        return frozenset(map(str, names)) if isinstance(names, list) else frozenset()

    def call(self, method: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer's JSON. Raises errdefs.Unavailable when there is none, Internal when the plugin refuses."""
        from http.client import HTTPException

        try:
            connection = self._connection()
            try:
                connection.request("POST", f"/{method}", json.dumps(body), _HEADERS)
                response = connection.getresponse()
                data = response.read(_ANSWER_MAX)
            finally:
                connection.close()
            answer = _answer(data, response.status)
        except TimeoutError as error:
            raise errdefs.Unavailable(
                f"plugin {self.name} does not answer {method} within {self._timeout_s:g} s"
            ) from error
        except (OSError, ValueError, RecursionError, HTTPException) as error:
            raise errdefs.Unavailable(f"plugin {self.name} does not answer {method}: {error}") from error
        if not isinstance(answer, dict):
            raise errdefs.Unavailable(
                f"plugin {self.name} answers {method} with {type(answer).__name__}, not an object"
            )
        refusal = answer.get("Err") or answer.get("Error") or ""
        if refusal or response.status != 200:
            text = refusal if isinstance(refusal, str) else json.dumps(refusal)
            raise errdefs.Internal(f"{method}: {text or f'status {response.status} {response.reason}'}")
        return answer

    def _connection(self) -> HTTPConnection:
        from http.client import HTTPConnection

        parts = urlsplit(self._address if "://" in self._address else f"unix://{self._address}")
        end = time.monotonic() + self._timeout_s
        if parts.scheme == "unix":
            connection = HTTPConnection("plugin", timeout=self._timeout_s)
            sock = _Timed(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            connection.sock = sock
            try:
                sock.limit(end)
                sock.connect(parts.path)
            except OSError:
                connection.close()
                raise
            return connection
        if parts.scheme in ("tcp", "http") and parts.hostname:
            connection = HTTPConnection(parts.hostname, parts.port or 80, timeout=self._timeout_s)
            connection.connect()
            sock = _Timed(fileno=connection.sock.detach())
            connection.sock = sock
            sock.limit(end)
            return connection
        raise OSError(f"unsupported address {self._address!r}")


class _Timed(socket.socket):
    """A socket whose timeout is for all that is received, not for each part: a peer that sends a byte a second is no
    better than one that sends none."""

    _end = 0.0

    def limit(self, end: float) -> None:
        """Nothing is waited for after `end` (monotonic seconds)."""
        self._end = end
        self.settimeout(max(end - time.monotonic(), 0.001))

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.limit(self._end)
        return super().recv_into(*args, **kwargs)


def find(
    name: str, protocol: str, timeout_s: float, sockets: Sequence[str] = SOCKETS, specs: Sequence[str] = SPECS
) -> Plugin:
    """The plugin of that name, which speaks `protocol`.

    Raises: errdefs.NotFound; InvalidArgument for a file that describes none; Internal, Unavailable of its first call.
    """
    address = _address(name, sockets, specs) if _NAME.fullmatch(name) else ""
    plugin = Plugin(name, address, timeout_s)
    if not address or protocol not in plugin.implements():
        raise errdefs.NotFound(f'plugin "{name}" not found')
    return plugin


def _answer(data: bytes, status: int) -> Any:
    """Raises ValueError for success without JSON, or nested deeper than whoever shows it could follow; of a failure, a
    text that isn't JSON is the reason."""
    try:
        answer = json.loads(data) if data.strip() else {}
    except ValueError:
        if status == 200:
            raise
        return {"Err": data.decode(errors="replace").strip()}
    _check_depth(answer)
    return answer


def _check_depth(answer: Any) -> None:
    level = [answer]
    for _ in range(_DEPTH_MAX):
        level = [part for whole in level if isinstance(whole, list | dict) for part in _parts(whole)]
        if not level:
            return
    raise ValueError(f"its JSON is nested more than {_DEPTH_MAX} deep")


def _parts(whole: list[Any] | dict[str, Any]) -> Iterable[Any]:
    return whole.values() if isinstance(whole, dict) else whole


def _address(name: str, sockets: Sequence[str], specs: Sequence[str]) -> str:
    for directory in sockets:
        for path in (f"{directory}/{name}.sock", f"{directory}/{name}/{name}.sock"):
            if os.path.exists(path):
                return f"unix://{path}"
    for directory in specs:
        for path in (f"{directory}/{name}", f"{directory}/{name}/{name}"):
            text = _read(f"{path}.spec").strip()
            if text:
                return text
            try:
                described = json.loads(_read(f"{path}.json") or "{}")
            except (ValueError, RecursionError) as error:
                raise errdefs.InvalidArgument(f"plugin file {path}.json: {error}") from error
            if isinstance(described, dict) and described.get("Addr"):
                return str(described["Addr"])
    return ""


def _read(path: str) -> str:
    """Raises errdefs.InvalidArgument for what is there and cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_SPEC_MAX)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise errdefs.InvalidArgument(f"plugin file {path}: {error.strerror}") from error
