"""A project: its document with names, defaults and environment filled in, and the services that are wanted of it.

Source: Compose Specification, "Profiles", "Version and name top-level elements", "Services top-level element".
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rorqual.compose import dotenv
from rorqual.compose.kinds import JSON
from rorqual.errdefs import InvalidArgument, NotFound

_BAD_IN_NAMES = re.compile(r"[^-_a-z0-9]")
_VALID_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_SHARED = ("network_mode", "ipc", "pid")
# What makes no difference to a container that is there.
_NOT_IN_HASH = ("build", "pull_policy", "pull_refresh_after", "scale", "depends_on", "profiles", "attach", "develop")


@dataclass(frozen=True, slots=True)
class Project:
    """`services` are those that are enabled; the others are in `disabled`."""

    name: str
    directory: str
    files: tuple[str, ...]
    document: JSON
    services: dict[str, JSON]
    disabled: dict[str, JSON]
    environment: Mapping[str, str]
    profiles: frozenset[str] = frozenset()

    @property
    def networks(self) -> JSON:
        return self.document.get("networks") or {}

    @property
    def volumes(self) -> JSON:
        return self.document.get("volumes") or {}

    def service(self, name: str) -> JSON:
        """Raises: NotFound."""
        if name not in self.services:
            raise NotFound(f"no such service: {name}")
        return self.services[name]

    def image(self, name: str) -> str:
        """What a service's containers are made of: the image that it names, or is built as."""
        service = self.services.get(name) or self.disabled[name]
        return str(service.get("image") or f"{self.name}-{name}")

    def selected(self, names: Sequence[str], *, dependencies: bool = True) -> Project:
        """With the named services (all for none) and what they need alone. Raises: NotFound, InvalidArgument."""
        if not names:
            return self
        every = {**self.disabled, **self.services}
        wanted: dict[str, None] = {}
        left = list(dict.fromkeys(names))
        profiles = set(self.profiles)
        for name in left:
            if name not in every:
                raise NotFound(f"no such service: {name}")
            if name in self.disabled:
                profiles |= set(every[name].get("profiles") or ())  # it is asked for, and so are they
        enabled = {name for name, service in every.items() if _is_enabled(service, profiles)}
        while left:
            name = left.pop(0)
            if name in wanted or (name not in names and name not in every):
                continue
            wanted[name] = None
            if dependencies:
                for other, how in dependencies_of(every[name]).items():
                    if other not in enabled and other not in names:
                        _check_disabled(self, name, other, how)
                        continue
                    left.append(other)
        chosen = {name: every[name] for name in every if name in wanted}
        rest = {name: service for name, service in every.items() if name not in wanted}
        return replace(self, services=chosen, disabled=rest)


def _is_enabled(service: JSON, profiles: Collection[str]) -> bool:
    return not service.get("profiles") or "*" in profiles or bool(set(profiles) & set(service["profiles"]))


def dependencies_of(service: JSON) -> dict[str, JSON]:
    """Services that it needs, with how: those of depends_on, and whose namespaces, links or volumes it takes."""
    found: dict[str, JSON] = dict(service.get("depends_on") or {})
    started = {"condition": "service_started", "required": True}
    for name in shared_services(service):
        found.setdefault(name, {**started, "restart": True})
    for link in service.get("links") or ():
        found.setdefault(link.partition(":")[0], {**started, "restart": True})
    for source in service.get("volumes_from") or ():
        if not source.startswith("container:"):
            found.setdefault(source.partition(":")[0], started)
    return found


def shared_services(service: JSON) -> list[str]:
    """Services whose namespaces it is in."""
    modes = [service.get(key) or "" for key in _SHARED]
    return [mode.removeprefix("service:") for mode in modes if mode.startswith("service:")]


def normal_name(text: str) -> str:
    """A directory's name as a project's."""
    return _BAD_IN_NAMES.sub("", text.lower()).lstrip("_-")


def check_name(name: str) -> None:
    """Raises: InvalidArgument."""
    if not _VALID_NAME.fullmatch(name):
        raise InvalidArgument(
            f'invalid project name "{name}": must consist only of lowercase alphanumeric characters, hyphens, and'
            " underscores as well as start with a letter or number"
        )


def make(
    document: JSON,
    *,
    name: str,
    directory: str,
    files: Sequence[str],
    environment: Mapping[str, str],
    profiles: Iterable[str] = (),
    wanted: Sequence[str] = (),
    resolve_environment: bool = True,
    check: bool = True,
) -> Project:
    """A project of what the loader read. Raises: InvalidArgument.

    Files of variables are read for the `wanted` services and what they need alone; for all when none is named.
    """
    document = {**document, "name": name}
    raw: JSON = document.get("services") or {}
    resolved = _with_dependencies(raw, wanted) if resolve_environment else set()
    services: dict[str, JSON] = {
        key: _normal(key, dict(service), environment if key in resolved else None, directory)
        for key, service in sorted(raw.items())
    }
    for kind in ("networks", "volumes", "secrets", "configs"):
        document[kind] = {
            key: _named(dict(value or {}), name, key) for key, value in sorted((document.get(kind) or {}).items())
        }
    if any("default" in (s.get("networks") or {}) for s in services.values()):
        document["networks"].setdefault("default", {"name": f"{name}_default"})
    document["services"] = services
    active = frozenset(profiles)
    enabled = {key: service for key, service in services.items() if _is_enabled(service, active)}
    disabled = {key: service for key, service in services.items() if key not in enabled}
    project = Project(name, directory, tuple(files), document, enabled, disabled, environment, active)
    if check:
        for key, service in services.items():
            _check(project, key, service)
        order(services)
    return project


def _with_dependencies(services: Mapping[str, JSON], names: Sequence[str]) -> set[str]:
    left, found = list(names or services), set()
    while left:
        name = left.pop()
        if name not in found and name in services:
            found.add(name)
            left += dependencies_of(services[name])
    return found


def _named(value: JSON, project: str, key: str) -> JSON:
    outside = value.get("external")
    value.setdefault("name", key if outside else f"{project}_{key}")
    return value


def _normal(name: str, service: JSON, environment: Mapping[str, str] | None, directory: str) -> JSON:
    if not service.get("network_mode") and not service.get("networks"):
        service["networks"] = {"default": None}
    if build := service.get("build"):
        build = {"context": directory, **build}
        if "dockerfile_inline" not in build:
            build.setdefault("dockerfile", "Dockerfile")
        service["build"] = build
    if environment is not None:
        service["environment"] = _environment(name, service, environment)
        service.pop("env_file", None)
        if service.get("label_file"):
            labels: JSON = {}
            for path in service.pop("label_file"):
                labels |= _labels_of(path)
            service["labels"] = {**labels, **(service.get("labels") or {})}
        if build and build.get("args"):
            found = {key: environment.get(key) if value is None else value for key, value in build["args"].items()}
            service["build"] = {**build, "args": found}
        if not service["environment"]:
            del service["environment"]
    for key in ("links", "volumes_from"):
        if key in service and not service[key]:
            del service[key]
    needed = dependencies_of(service)
    if needed:
        service["depends_on"] = {
            name: {"condition": "service_started", "required": True, **how} for name, how in needed.items()
        }
    return service


def _environment(name: str, service: JSON, environment: Mapping[str, str]) -> JSON:
    """What the container gets: its files' variables, then its own; a name alone has ours, or is left out."""
    found: dict[str, str | None] = {}
    for entry in service.get("env_file") or ():
        path = Path(entry["path"])
        if not path.exists() and not entry.get("required", True):
            continue
        try:
            own = {**(service.get("environment") or {}), **found}
            lookup = {**{k: v for k, v in own.items() if v is not None}, **environment}
            found |= dotenv.read(path, lookup.get, raw=entry.get("format") == "raw")
        except OSError as e:
            raise InvalidArgument(f"env file {path} not found: {(e.strerror or '').lower()}") from None
    for key, value in (service.get("environment") or {}).items():
        found[key] = environment.get(key) if value is None else value
    return {key: value for key, value in found.items() if value is not None}


def _labels_of(path: str) -> JSON:
    try:
        return dict(dotenv.read(Path(path), lambda name: None))
    except OSError as e:
        raise InvalidArgument(f"label file {path} not found: {(e.strerror or '').lower()}") from None


def _check(project: Project, name: str, service: JSON) -> None:
    def invalid(text: str) -> InvalidArgument:
        return InvalidArgument(f'service "{name}" {text}: invalid compose project')

    if not service.get("image") and not service.get("build") and not service.get("provider"):
        raise invalid("has neither an image nor a build context specified")
    for key in ("networks", "secrets", "configs"):
        known = project.document.get(key) or {}
        for item in service.get(key) or ():
            source = item if isinstance(item, str) else item["source"]
            if source not in known:
                raise invalid(f"refers to undefined {key.removesuffix('s')} {source}")
    if service.get("networks") and service.get("network_mode"):
        raise invalid("declares mutually exclusive `network_mode` and `networks`")
    for volume in service.get("volumes") or ():
        if volume["type"] == "volume" and volume.get("source") and volume["source"] not in project.volumes:
            raise invalid(f"refers to undefined volume {volume['source']}")
    every = {**project.disabled, **project.services}
    for other, how in dependencies_of(service).items():
        if other == name:
            raise InvalidArgument(f"dependency cycle detected: {name} -> {name}: invalid compose project")
        if other not in every and how.get("required", True):
            raise invalid(f"depends on undefined service {json.dumps(other)}")
        if name in project.services and other in project.disabled:
            _check_disabled(project, name, other, how)
    scale = replicas(service)
    if service.get("container_name") and scale > 1:
        raise invalid(f"can't set container_name and {name} as container name must be unique")
    if "scale" in service and (service.get("deploy") or {}).get("replicas", service["scale"]) != service["scale"]:
        raise invalid("can't set distinct values on 'scale' and 'deploy.replicas'")


def _check_disabled(project: Project, name: str, other: str, how: JSON) -> None:
    if how.get("required", True) and other in project.disabled:
        profiles = json.dumps(project.disabled[other].get("profiles") or [])
        raise InvalidArgument(
            f'service "{other}" is required by "{name}" but is disabled. Can be enabled by profiles {profiles}'
        )


def replicas(service: JSON) -> int:
    """How many containers a service has when nobody says otherwise."""
    if "scale" in service:
        return int(service["scale"])
    return int((service.get("deploy") or {}).get("replicas", 1))


def order(services: Mapping[str, JSON]) -> list[str]:
    """The services, each behind what it depends on. Raises: InvalidArgument for a cycle."""
    out: list[str] = []
    path: list[str] = []

    def visit(name: str) -> None:
        if name in out:
            return
        if name in path:
            shown = " -> ".join([*path[path.index(name) :], name])
            raise InvalidArgument(f"dependency cycle detected: {shown}: invalid compose project")
        path.append(name)
        for other in dependencies_of(services[name]):
            if other in services:
                visit(other)
        path.pop()
        out.append(name)

    for name in services:
        visit(name)
    return out


def config_hash(service: JSON) -> str:
    """Tells whether a container was made for this service as it is now."""
    left = {key: value for key, value in service.items() if key not in _NOT_IN_HASH}
    if "deploy" in left:
        left["deploy"] = {key: value for key, value in left["deploy"].items() if key != "replicas"}
    return hashlib.sha256(json.dumps(left, sort_keys=True).encode()).hexdigest()


def environment_of(directory: str, given: Sequence[str], own: Mapping[str, str], *, missing_ok: bool) -> dict[str, str]:
    """The variables: `own` (the process's), then those of the files. Raises: InvalidArgument."""
    found: dict[str, str] = {}
    for name in given or [os.path.join(directory, ".env")]:
        path = Path(directory, name)
        if not given and not path.is_file():
            continue
        try:
            found |= dotenv.read(path, {**found, **own}.get)
        except OSError as e:
            if not missing_ok:
                raise InvalidArgument(f"couldn't find env file: {path}: {(e.strerror or '').lower()}") from None
    return {**found, **own}
