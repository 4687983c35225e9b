"""Execs. Source: Engine API 1.56, Exec."""

# ruff: noqa: RUF009  (wire() declares a field, as dataclasses.field does)

from __future__ import annotations

from dataclasses import dataclass

from rorqual.api.codec import wire


@dataclass(frozen=True, slots=True)
class ExecConfig:
    """Body of POST /containers/{id}/exec."""

    user: str = wire("User", "")
    privileged: bool = wire("Privileged", False)
    tty: bool = wire("Tty", False)
    console_size: tuple[int, ...] | None = wire("ConsoleSize", None, omit=True)
    attach_stdin: bool = wire("AttachStdin", False)
    attach_stderr: bool = wire("AttachStderr", False)
    attach_stdout: bool = wire("AttachStdout", False)
    detach: bool = wire("Detach", False)
    detach_keys: str = wire("DetachKeys", "")
    env: tuple[str, ...] | None = wire("Env", None)
    working_dir: str = wire("WorkingDir", "")
    cmd: tuple[str, ...] | None = wire("Cmd", None)


@dataclass(frozen=True, slots=True)
class ExecStartConfig:
    """Body of POST /exec/{id}/start."""

    detach: bool = wire("Detach", False)
    tty: bool = wire("Tty", False)
    console_size: tuple[int, ...] | None = wire("ConsoleSize", None, omit=True)


@dataclass(frozen=True, slots=True)
class ExecProcessConfig:
    """The process in an exec's inspect answer."""

    tty: bool = wire("tty", False)
    entrypoint: str = wire("entrypoint", "")
    arguments: tuple[str, ...] = wire("arguments", ())
    privileged: bool | None = wire("privileged", None, omit=True)
    user: str = wire("user", "", omit=True)


@dataclass(frozen=True, slots=True)
class ExecInspect:
    """Answer of GET /exec/{id}/json."""

    id: str = wire("ID", "")
    running: bool = wire("Running", False)
    exit_code: int | None = wire("ExitCode", None)
    process_config: ExecProcessConfig = wire("ProcessConfig", ExecProcessConfig())
    open_stdin: bool = wire("OpenStdin", False)
    open_stderr: bool = wire("OpenStderr", False)
    open_stdout: bool = wire("OpenStdout", False)
    can_remove: bool = wire("CanRemove", False)
    container_id: str = wire("ContainerID", "")
    detach_keys: str = wire("DetachKeys", "")
    pid: int = wire("Pid", 0)
