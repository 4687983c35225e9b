"""A project's files as one document: each in its canonical form, with what it extends and includes, over each other.

Source: Compose Specification, "extends", "include", "Merge".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rorqual.compose import dotenv, schema, yamltext
from rorqual.compose.interpolate import Interpolator
from rorqual.compose.kinds import JSON, Raw, merged, settled
from rorqual.compose.yamltext import RESET
from rorqual.errdefs import InvalidArgument

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
OVERRIDES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
_MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Options:
    """`environment`: the variables; `paths`: relative paths become absolute; `warn`: is told what is odd."""

    environment: Mapping[str, str]
    interpolate: bool = True
    paths: bool = True
    stdin: Callable[[], bytes] = lambda: b""
    warn: Callable[[str], None] = lambda text: None


@dataclass(slots=True)
class Loader:
    """Reads files once. Raises: InvalidArgument, OSError."""

    options: Options
    _reading: list[str] = field(default_factory=list)
    _known: dict[tuple[str, str], JSON] = field(default_factory=dict)

    def load(self, files: Sequence[str], directory: str) -> JSON:
        """The files over each other; `directory` is the project's. A file "-" is stdin."""
        document: JSON = {}
        for file in files:
            for part in self._documents(file, directory):
                document = schema.PROJECT.merge(document, part)
        whole: JSON = settled(document)
        return whole

    def _documents(self, file: str, directory: str) -> list[JSON]:
        path = os.path.normpath(os.path.join(directory, file)) if file != "-" else "-"
        if path in self._reading or len(self._reading) > _MAX_DEPTH:
            raise InvalidArgument("include cycle detected:\n" + "\n include ".join([*self._reading, path]))
        self._reading.append(path)
        try:
            out: list[JSON] = []
            for raw in yamltext.load(self.options.stdin(), "-") if path == "-" else _read(path):
                part = self._canonical(raw, path, directory)
                included = settled(part.pop("include", []))
                brought = [self._included(entry, directory) for entry in included if entry is not RESET]
                services = part.get("services")
                if isinstance(services, dict):
                    known = dict(services)  # what it extends may be of an included file
                    for document in brought:
                        known = {**(document.get("services") or {}), **known}
                    part["services"] = {name: self._extended(name, known, path, directory) for name in services}
                out += [*brought, part]
            return out
        finally:
            self._reading.pop()

    def _canonical(self, raw: Any, path: str, directory: str, options: Options | None = None) -> JSON:
        options = options or self.options
        if raw is None:
            raw = {}
        if not isinstance(raw, dict):
            raise InvalidArgument(f"{path}: top-level object must be a mapping")
        raw = {name: value for name, value in raw.items() if value is not None or name in ("networks", "volumes")}
        if not options.interpolate:
            raw = {name: value if name.startswith("x-") else _left_alone(value) for name, value in raw.items()}
        else:
            lookup = Interpolator(options.environment.get, options.warn)
            raw = {name: value if name.startswith("x-") else lookup.value(value, name) for name, value in raw.items()}
        if "version" in raw:
            options.warn(
                f"{path}: the attribute `version` is obsolete, it will be ignored, please remove it to avoid potential"
                " confusion"
            )
        try:
            document: JSON = schema.PROJECT.canon(raw, "", directory if options.paths else None)
        except InvalidArgument as e:
            raise InvalidArgument(f"validating {path}: {e}") from None
        document.pop("version", None)
        return document

    def _included(self, entry: JSON, directory: str) -> JSON:
        """What an entry of `include` brings, a project of its own with its own .env."""
        files = entry.get("path") or []
        if not files:
            raise InvalidArgument("include: missing path")
        first = os.path.join(directory, files[0])
        base = entry.get("project_directory") or os.path.dirname(first)
        base = os.path.join(directory, base)
        env_files = entry.get("env_file")
        environment = dict(self.options.environment)
        for name in env_files if env_files is not None else [os.path.join(base, ".env")]:
            if name != "/dev/null" and (env_files is not None or os.path.isfile(name)):
                path = Path(directory, name)
                try:
                    environment = {**dotenv.read(path, environment.get), **environment}
                except OSError as e:
                    raise InvalidArgument(f"env file {path} not found: {e.strerror}") from None
        options = Options(
            environment, self.options.interpolate, self.options.paths, self.options.stdin, self.options.warn
        )
        other = Loader(options, self._reading)
        document: JSON = {}
        for name in files:
            for part in other._documents(os.path.join(directory, name), base):
                document = schema.PROJECT.merge(document, part)
        document.pop("name", None)
        for service in (document.get("services") or {}).values():
            for holder, key in ((service, "environment"), (service.get("build"), "args")):
                if isinstance(holder, dict) and isinstance(holder.get(key), dict):
                    # A name alone means the variable as that project has it.
                    holder[key] = {k: environment.get(k) if v is None else v for k, v in holder[key].items()}
        return document

    def _extended(self, name: str, services: JSON, path: str, directory: str, chain: tuple[Any, ...] = ()) -> JSON:
        """A service of the file, over what it extends."""
        service: JSON = services[name]
        if not isinstance(service, dict) or service.get("extends", RESET) is RESET:
            return service
        if (path, name) in chain:
            shown = " ->\n  ".join(f'"{n}" of {p}' for p, n in (*chain, (path, name)))
            raise InvalidArgument(f"Circular reference:\n  {shown}")
        chain = (*chain, (path, name))
        what = settled(service["extends"])
        base_name, file = what.get("service", ""), what.get("file")
        if file is None:
            others, where, base = services, path, directory
        else:
            where = os.path.normpath(os.path.join(directory, file))
            base = os.path.dirname(where)
            others = self._services_of(where, base)
        if base_name not in others:
            raise InvalidArgument(
                f'cannot extend service "{name}" in {path}: service "{base_name}" not found in {where}'
            )
        below = self._extended(base_name, others, where, base, chain)
        service = {key: value for key, value in service.items() if key != "extends"}
        over: JSON = merged(schema.SERVICE, below, service)
        return over

    def _services_of(self, path: str, base: str) -> JSON:
        if (path, base) not in self._known:
            document: JSON = {}
            for raw in _read(path):
                document = schema.PROJECT.merge(document, self._canonical(raw, path, base))
            self._known[path, base] = document.get("services") or {}
        return self._known[path, base]


def _left_alone(value: Any) -> Any:
    if isinstance(value, str):
        return Raw(value) if "$" in value else value
    if isinstance(value, dict):
        return {key: _left_alone(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_left_alone(item) for item in value]
    return value.mapped(_left_alone) if isinstance(value, yamltext.Override) else value


def _read(path: str) -> list[Any]:
    try:
        return yamltext.read(Path(path))
    except IsADirectoryError:
        raise InvalidArgument(f"read {path}: is a directory") from None
    except OSError as e:
        raise InvalidArgument(f"open {path}: {(e.strerror or '').lower()}") from None


def find(directory: str) -> list[str]:
    """The project's files: in `directory` or the nearest one above it; with the override beside it."""
    where = os.path.abspath(directory)
    while True:
        if found := [name for name in NAMES if os.path.isfile(os.path.join(where, name))]:
            files = [os.path.join(where, found[0])]
            for name in OVERRIDES:
                if os.path.isfile(os.path.join(where, name)):
                    return [*files, os.path.join(where, name)]
            return files
        if where == os.path.dirname(where):
            return []
        where = os.path.dirname(where)
