"""Containers and their execs: Engine API sections Container and Exec. Each method is one call."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from rorqual.client.engine import Client
    from rorqual.client.http1 import Response, Socket

    JSON = dict[str, Any]
    # Inside the class `list` is a method.
    JSONs = list[JSON]


class Containers:
    """`Client.containers`. An `id` may be a name or a unique prefix of an id. Raises: as `Client.request`."""

    __slots__ = ("_client",)

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(
        self,
        *,
        all: bool = False,
        limit: int | None = None,
        size: bool = False,
        filters: Mapping[str, Iterable[str]] | None = None,
    ) -> JSONs:
        query = {
            "all": True if all else None,
            "limit": limit,
            "size": True if size else None,
            "filters": encode_filters(filters),
        }
        answer: JSONs = self._client.json("GET", "/containers/json", query=query)
        return answer

    def create(self, config: JSON, *, name: str | None = None, platform: str | None = None) -> JSON:
        """{"Id", "Warnings"}; `config` is ContainerConfig with HostConfig and NetworkingConfig."""
        query = {"name": name or None, "platform": platform or None}
        answer: JSON = self._client.json("POST", "/containers/create", query=query, body=config)
        return answer

    def inspect(self, id: str, *, size: bool = False) -> JSON:
        answer: JSON = self._client.json("GET", f"/containers/{id}/json", query={"size": True if size else None})
        return answer

    def inspect_raw(self, id: str, *, size: bool = False) -> bytes:
        return self._client.request("GET", f"/containers/{id}/json", query={"size": True if size else None})

    def start(self, id: str, *, detach_keys: str = "", checkpoint: str = "", checkpoint_dir: str = "") -> None:
        query = {
            "detachKeys": detach_keys or None,
            "checkpoint": checkpoint or None,
            "checkpoint-dir": checkpoint_dir or None,
        }
        self._client.request("POST", f"/containers/{id}/start", query=query)

    def stop(self, id: str, *, timeout_s: int | None = None, signal: str = "") -> None:
        query = {"t": timeout_s, "signal": signal or None}
        self._client.request("POST", f"/containers/{id}/stop", query=query)

    def restart(self, id: str, *, timeout_s: int | None = None, signal: str = "") -> None:
        query = {"t": timeout_s, "signal": signal or None}
        self._client.request("POST", f"/containers/{id}/restart", query=query)

    def kill(self, id: str, signal: str = "") -> None:
        self._client.request("POST", f"/containers/{id}/kill", query={"signal": signal or None})

    def pause(self, id: str) -> None:
        self._client.request("POST", f"/containers/{id}/pause")

    def unpause(self, id: str) -> None:
        self._client.request("POST", f"/containers/{id}/unpause")

    def rename(self, id: str, name: str) -> None:
        self._client.request("POST", f"/containers/{id}/rename", query={"name": name})

    def remove(self, id: str, *, force: bool = False, volumes: bool = False, link: bool = False) -> None:
        query = {"force": True if force else None, "v": True if volumes else None, "link": True if link else None}
        self._client.request("DELETE", f"/containers/{id}", query=query)

    def update(self, id: str, resources: JSON) -> JSON:
        answer: JSON = self._client.json("POST", f"/containers/{id}/update", body=resources)
        return answer

    def change_ports(self, id: str, add: JSON, remove: JSON) -> None:
        """Publish and close ports, as HostConfig.PortBindings; only a rorquald knows it."""
        self._client.json("POST", f"/containers/{id}/ports", body={"Add": add, "Remove": remove})

    def top(self, id: str, ps_args: str = "") -> JSON:
        answer: JSON = self._client.json("GET", f"/containers/{id}/top", query={"ps_args": ps_args or None})
        return answer

    def changes(self, id: str) -> JSONs:
        """Changed paths: [{"Path", "Kind": 0 modified | 1 added | 2 deleted}]."""
        answer: JSONs | None = self._client.json("GET", f"/containers/{id}/changes")
        return answer or []

    def resize(self, id: str, height: int, width: int) -> None:
        self._client.request("POST", f"/containers/{id}/resize", query={"h": height, "w": width})

    def stats(self, id: str, *, stream: bool = True, one_shot: bool = False) -> Iterator[JSON]:
        query = {"stream": stream, "one-shot": True if one_shot else None}
        return self._client.json_stream("GET", f"/containers/{id}/stats", query=query)

    def prune(self, filters: Mapping[str, Iterable[str]] | None = None) -> JSON:
        query = {"filters": encode_filters(filters)}
        answer: JSON = self._client.json("POST", "/containers/prune", query=query)
        return answer

    def open_wait(self, id: str, condition: str = "not-running") -> Response:
        """The head of the answer to a wait (the engine sends it at once); its body comes when the wait ends."""
        return self._client.open("POST", f"/containers/{id}/wait", query={"condition": condition})

    def wait(self, id: str, condition: str = "not-running") -> JSON:
        """{"StatusCode", "Error"}, when the container is not-running | next-exit | removed."""
        answer: JSON = self._client.json("POST", f"/containers/{id}/wait", query={"condition": condition})
        return answer

    def logs(
        self,
        id: str,
        *,
        stdout: bool = True,
        stderr: bool = True,
        follow: bool = False,
        since: str = "",
        until: str = "",
        timestamps: bool = False,
        tail: str = "",
        details: bool = False,
    ) -> Response:
        """The log as a response to read: frames of 8-byte heads, or raw bytes for a container with a terminal."""
        query = {
            "stdout": True if stdout else None,
            "stderr": True if stderr else None,
            "follow": True if follow else None,
            "since": since or None,
            "until": until or None,
            "timestamps": True if timestamps else None,
            "tail": tail or None,
            "details": True if details else None,
        }
        return self._client.open("GET", f"/containers/{id}/logs", query=query)

    def attach(
        self,
        id: str,
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        logs: bool = False,
        detach_keys: str = "",
    ) -> tuple[Socket, bytes]:
        """A socket to the container's streams (the caller's to close) and the bytes that already came."""
        query = {
            "stream": True,
            "stdin": True if stdin else None,
            "stdout": True if stdout else None,
            "stderr": True if stderr else None,
            "logs": True if logs else None,
            "detachKeys": detach_keys or None,
        }
        sock, rest, _ = self._client.hijack(f"/containers/{id}/attach", query=query)
        return sock, rest

    # Archives

    def get_archive(self, id: str, path: str) -> Response:
        """A tar of `path`; the header x-docker-container-path-stat tells about it."""
        return self._client.open("GET", f"/containers/{id}/archive", query={"path": path})

    def stat_path(self, id: str, path: str) -> str:
        """The base64 JSON of x-docker-container-path-stat."""
        response = self._client.open("HEAD", f"/containers/{id}/archive", query={"path": path})
        response.read()
        self._client._release(response)
        return response.headers.get("x-docker-container-path-stat", "")

    def put_archive(self, id: str, path: str, data: bytes | Iterable[bytes], *, copy_owner: bool = False) -> None:
        query = {"path": path, "noOverwriteDirNonDir": True, "copyUIDGID": True if copy_owner else None}
        self._client.request(
            "PUT", f"/containers/{id}/archive", query=query, body=data, headers={"Content-Type": "application/x-tar"}
        )

    def export(self, id: str) -> Response:
        return self._client.open("GET", f"/containers/{id}/export")

    def commit(self, id: str, query: Mapping[str, object]) -> JSON:
        answer: JSON = self._client.json("POST", "/commit", query={"container": id, **query}, body={})
        return answer

    # Execs

    def exec_create(self, id: str, config: JSON) -> str:
        answer: JSON = self._client.json("POST", f"/containers/{id}/exec", body=config)
        return str(answer["Id"])

    def exec_start(self, exec_id: str, *, tty: bool, console_size: tuple[int, int] | None) -> tuple[Socket, bytes]:
        """Start an exec and take its streams over; `console_size` is (height, width)."""
        body: JSON = {"Detach": False, "Tty": tty}
        if console_size is not None:
            body["ConsoleSize"] = list(console_size)
        sock, rest, _ = self._client.hijack(f"/exec/{exec_id}/start", body=body)
        return sock, rest

    def exec_start_detached(self, exec_id: str, *, tty: bool) -> None:
        self._client.json("POST", f"/exec/{exec_id}/start", body={"Detach": True, "Tty": tty})

    def exec_inspect(self, exec_id: str) -> JSON:
        answer: JSON = self._client.json("GET", f"/exec/{exec_id}/json")
        return answer

    def exec_resize(self, exec_id: str, height: int, width: int) -> None:
        self._client.request("POST", f"/exec/{exec_id}/resize", query={"h": height, "w": width})


def encode_filters(filters: Mapping[str, Iterable[str]] | None) -> dict[str, dict[str, bool]] | None:
    """Filters in the API's form, {"name": {"value": true}}; None when there are none."""
    if not filters:
        return None
    return {name: dict.fromkeys(values, True) for name, values in filters.items()}
