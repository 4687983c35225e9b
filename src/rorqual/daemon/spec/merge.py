"""The image's defaults below what the user asked for. Source: moby's merge rules, ContainerCreate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from rorqual.api.config import ContainerConfig, HealthConfig
from rorqual.errdefs import InvalidArgument
from rorqual.oci.defaults import PATH_ENV
from rorqual.oci.image import ContainerConfig as ImageConfig
from rorqual.oci.image import Healthcheck


def merge(user: ContainerConfig, image: ImageConfig) -> ContainerConfig:
    """`user` completed from `image`. Raises: InvalidArgument when no command results."""
    entrypoint, cmd, args_escaped = user.entrypoint, user.cmd, user.args_escaped
    if not entrypoint:
        if not cmd:
            cmd, args_escaped = image.cmd, image.args_escaped
        if entrypoint is None:
            entrypoint = image.entrypoint
    if entrypoint == ("",):
        entrypoint = None
    if not entrypoint and not cmd:
        raise InvalidArgument("no command specified")
    return replace(
        user,
        user=user.user or image.user,
        exposed_ports=_union(user.exposed_ports, image.exposed_ports),
        env=_env(user.env or (), image.env),
        cmd=cmd,
        entrypoint=entrypoint,
        args_escaped=args_escaped,
        volumes=_union(user.volumes, image.volumes),
        working_dir=user.working_dir or image.working_dir or "",
        labels={**image.labels, **(user.labels or {})},
        stop_signal=user.stop_signal or image.stop_signal,
        stop_timeout=user.stop_timeout if user.stop_timeout is not None else image.stop_timeout_s,
        shell=user.shell or image.shell,
        on_build=user.on_build if user.on_build is not None else image.on_build,
        healthcheck=_health(user.healthcheck, image.healthcheck),
    )


def of_image(image: ImageConfig) -> ContainerConfig:
    """An image's config as a container's."""
    return ContainerConfig(
        user=image.user,
        exposed_ports=_union(None, image.exposed_ports),
        env=image.env or None,
        cmd=image.cmd,
        entrypoint=image.entrypoint,
        args_escaped=image.args_escaped,
        volumes=_union(None, image.volumes),
        working_dir=image.working_dir,
        labels=dict(image.labels) or None,
        stop_signal=image.stop_signal,
        stop_timeout=image.stop_timeout_s,
        shell=image.shell,
        on_build=image.on_build,
        healthcheck=_health(None, image.healthcheck),
    )


def _union(own: Mapping[str, Any] | None, more: Iterable[str]) -> Mapping[str, Any] | None:
    merged: dict[str, Any] = {key: {} for key in more}
    merged.update(own or {})
    return merged or None


def _env(own: tuple[str, ...], image: tuple[str, ...]) -> tuple[str, ...]:
    if not own:
        return image
    names = {entry.partition("=")[0] for entry in own}
    return own + tuple(entry for entry in image if entry.partition("=")[0] not in names)


def _health(own: HealthConfig | None, image: Healthcheck | None) -> HealthConfig | None:
    if image is None:
        return own
    own = own or HealthConfig()
    return HealthConfig(
        test=own.test or _test(image) or None,
        interval=own.interval or image.interval_ns,
        timeout=own.timeout or image.timeout_ns,
        start_period=own.start_period or image.start_period_ns,
        start_interval=own.start_interval or image.start_interval_ns,
        retries=own.retries or image.retries,
    )


def _test(image: Healthcheck) -> tuple[str, ...]:
    """Of the image's only what Docker knows: the probes beyond it go out of the shim, which only the user may ask for
    (CVE-2026-53488)."""
    return image.test if image.test and image.test[0] in ("NONE", "CMD", "CMD-SHELL") else ()


def command(config: ContainerConfig) -> tuple[str, tuple[str, ...]]:
    """The path and the arguments that entrypoint and cmd make."""
    whole = (*(config.entrypoint or ()), *(config.cmd or ()))
    return whole[0], whole[1:]


def environment(config: ContainerConfig, hostname: str, links: Iterable[str] = ()) -> tuple[str, ...]:
    """The process's environment: Docker's own variables and the links', overridden by the config; `NAME` unsets."""
    values = {"PATH": PATH_ENV.partition("=")[2], "HOSTNAME": hostname}
    if config.tty:
        values["TERM"] = "xterm"
    return override(values, (*links, *(config.env or ())))


def override(values: dict[str, str], env: Iterable[str]) -> tuple[str, ...]:
    """`values` with `env` on top."""
    for entry in env:
        name, equals, value = entry.partition("=")
        if equals:
            values[name] = value
        else:
            values.pop(name, None)
    return tuple(f"{name}={value}" for name, value in values.items())
