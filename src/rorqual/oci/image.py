"""The image config: what a container of the image runs as, its history and the diff IDs of its layers.

Docker's extra fields (Healthcheck, OnBuild, Shell, ...) included. Source: image-spec config.md; moby image/spec.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rorqual.errdefs import InvalidArgument
from rorqual.oci import digest as digests
from rorqual.oci.digest import Digest
from rorqual.oci.fields import Fields
from rorqual.oci.platform import Platform

# CVE-2026-47262: no config may make its reader's memory grow without bound. Real configs are below 100 KiB.
MAX_CONFIG_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """Durations in nanoseconds; 0 = the default, an empty test = inherited."""

    test: tuple[str, ...] = ()
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 0

    @classmethod
    def from_fields(cls, fields: Fields) -> Healthcheck:
        return cls(
            test=fields.texts("Test"),
            interval_ns=fields.number("Interval"),
            timeout_ns=fields.number("Timeout"),
            start_period_ns=fields.number("StartPeriod"),
            start_interval_ns=fields.number("StartInterval"),
            retries=fields.number("Retries"),
        )

    def to_json(self) -> dict[str, object]:
        pairs: tuple[tuple[str, object], ...] = (
            ("Test", list(self.test)),
            ("Interval", self.interval_ns),
            ("Timeout", self.timeout_ns),
            ("StartPeriod", self.start_period_ns),
            ("StartInterval", self.start_interval_ns),
            ("Retries", self.retries),
        )
        return {name: value for name, value in pairs if value}


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """The `config` object: defaults of a container. `cmd`, `entrypoint` and `shell` are None when not given."""

    user: str = ""
    env: tuple[str, ...] = ()
    cmd: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    working_dir: str = ""
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    stop_timeout_s: int | None = None
    healthcheck: Healthcheck | None = None
    shell: tuple[str, ...] | None = None
    on_build: tuple[str, ...] | None = None
    args_escaped: bool = False

    @classmethod
    def from_fields(cls, fields: Fields) -> ContainerConfig:
        healthcheck = fields.sub("Healthcheck")
        return cls(
            user=fields.text("User"),
            env=fields.texts("Env"),
            cmd=fields.optional_texts("Cmd"),
            entrypoint=fields.optional_texts("Entrypoint"),
            working_dir=fields.text("WorkingDir"),
            exposed_ports=fields.key_set("ExposedPorts"),
            volumes=fields.key_set("Volumes"),
            labels=fields.text_map("Labels"),
            stop_signal=fields.text("StopSignal"),
            stop_timeout_s=fields.number("StopTimeout") if "StopTimeout" in fields else None,
            healthcheck=None if healthcheck is None else Healthcheck.from_fields(healthcheck),
            shell=fields.optional_texts("Shell"),
            on_build=fields.optional_texts("OnBuild"),
            args_escaped=fields.flag("ArgsEscaped"),
        )

    def to_json(self) -> dict[str, object]:
        """As in a config document: absent where empty, except what Docker always writes."""
        found: dict[str, object] = {}
        if self.user:
            found["User"] = self.user
        if self.exposed_ports:
            found["ExposedPorts"] = {port: {} for port in self.exposed_ports}
        found["Env"] = list(self.env)
        for name, texts in (("Entrypoint", self.entrypoint), ("Cmd", self.cmd), ("Shell", self.shell)):
            if texts is not None:
                found[name] = list(texts)
        if self.volumes:
            found["Volumes"] = {volume: {} for volume in self.volumes}
        found["WorkingDir"] = self.working_dir
        if self.labels:
            found["Labels"] = dict(self.labels)
        if self.stop_signal:
            found["StopSignal"] = self.stop_signal
        if self.stop_timeout_s is not None:
            found["StopTimeout"] = self.stop_timeout_s
        if self.healthcheck is not None:
            found["Healthcheck"] = self.healthcheck.to_json()
        if self.on_build is not None:
            found["OnBuild"] = list(self.on_build)
        if self.args_escaped:
            found["ArgsEscaped"] = True
        return found


@dataclass(frozen=True, slots=True)
class History:
    """One step of how the image was made; `empty_layer` when it made no layer. `created` is RFC 3339 text."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False

    def to_json(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for name in ("created", "author", "created_by", "comment", "empty_layer"):
            if value := getattr(self, name):
                found[name] = value
        return found


@dataclass(frozen=True, slots=True)
class Image:
    """An image config. `raw` is what `digest`, Docker's image ID, is of."""

    platform: Platform
    config: ContainerConfig
    diff_ids: tuple[Digest, ...]
    history: tuple[History, ...]
    created: str
    author: str
    docker_version: str
    comment: str
    raw: bytes
    digest: Digest

    @property
    def chain_ids(self) -> tuple[Digest, ...]:
        """The chain ID of each layer, the bottom first."""
        return chain_ids(self.diff_ids)


def parse(raw: bytes, algorithm: str = "sha256") -> Image:
    """The image config in `raw`.

    Raises: InvalidArgument naming the field.
    """
    fields = Fields.load(raw, "image config", MAX_CONFIG_BYTES)
    rootfs = fields.sub("rootfs")
    if rootfs is None or rootfs.text("type", "layers") != "layers":
        raise InvalidArgument("image config: rootfs.type must be layers")
    platform = Platform.from_fields(fields)
    if not platform.os or not platform.architecture:
        # A config without them is a plugin's or an artifact's, or older than Docker 1.0.
        raise InvalidArgument("image config: os and architecture must be given")
    config = fields.sub("config")
    return Image(
        platform=platform,
        config=ContainerConfig() if config is None else ContainerConfig.from_fields(config),
        diff_ids=tuple(digests.parse(diff_id) for diff_id in rootfs.texts("diff_ids")),
        history=tuple(_history(entry) for entry in fields.objects("history")),
        created=fields.text("created"),
        author=fields.text("author"),
        docker_version=fields.text("docker_version"),
        comment=fields.text("comment"),
        raw=raw,
        digest=digests.of(raw, algorithm),
    )


def _history(fields: Fields) -> History:
    return History(
        created=fields.text("created"),
        created_by=fields.text("created_by"),
        author=fields.text("author"),
        comment=fields.text("comment"),
        empty_layer=fields.flag("empty_layer"),
    )


def chain_ids(diff_ids: Sequence[Digest]) -> tuple[Digest, ...]:
    """The chain IDs of a stack of layers: ChainID(n) = sha256(ChainID(n-1) + " " + DiffID(n))."""
    found: list[Digest] = []
    for diff_id in diff_ids:
        if not found:
            found.append(diff_id)
        else:
            found.append(Digest("sha256:" + hashlib.sha256(f"{found[-1]} {diff_id}".encode()).hexdigest()))
    return tuple(found)
