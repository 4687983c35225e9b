"""`rorqual compose config`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

from rorqual.cli.command import ANY_ARGS, Command, Context
from rorqual.cli.commands.compose import loading
from rorqual.cli.errors import CommandError
from rorqual.cli.flags import Values
from rorqual.cli.table import align
from rorqual.compose import yamltext
from rorqual.compose.interpolate import variables
from rorqual.compose.project import Project, config_hash

_TOP = ("name", "services", "networks", "volumes", "secrets", "configs", "models")


def run(context: Context, flags: Values, args: list[str]) -> None:
    format = flags.string("format") or "yaml"
    if format not in ("yaml", "json"):
        raise CommandError(f"unsupported format {format}")
    for name in ("lock-image-digests", "resolve-image-digests"):
        if flags.boolean(name):
            raise CommandError(f"--{name} is not supported")
    if flags.boolean("environment"):
        for name, value in sorted(loading.environment(context).items()):
            context.out(f"{name}={value}")
        return
    if flags.boolean("variables"):
        _variables(context)
        return
    of = loading.load(
        context,
        args,
        interpolate=not flags.boolean("no-interpolate"),
        paths=not flags.boolean("no-path-resolution"),
        resolve_environment=not flags.boolean("no-env-resolution"),
        check=not flags.boolean("no-consistency"),
        quiet=flags.boolean("quiet"),
    )
    if flags.boolean("profiles"):
        _lines(context, sorted({p for s in {**of.disabled, **of.services}.values() for p in s.get("profiles") or ()}))
        return
    of = of.selected(args)
    if flags.boolean("services"):
        _lines(context, of.services)
    elif flags.boolean("networks"):
        _lines(context, _used(of)["networks"])
    elif flags.boolean("volumes"):
        _lines(context, _used(of)["volumes"])
    elif flags.boolean("models"):
        _lines(context, of.document.get("models") or {})
    elif flags.boolean("images"):
        _lines(context, sorted({of.image(name) for name in of.services}))
    elif flags.string("hash"):
        wanted = list(of.services) if flags.string("hash") == "*" else flags.string("hash").split(",")
        loading.check_services(of, wanted)
        _lines(context, [f"{name} {config_hash(of.services[name])}" for name in wanted])
    elif not flags.boolean("quiet"):
        document = _canonical(of)
        if not flags.boolean("no-interpolate"):
            document = _escaped(document)
        as_json = json.dumps(document, indent=2, ensure_ascii=False) + "\n" if format == "json" else ""
        _write(context, flags.string("output"), as_json or yamltext.dump(document))


def _lines(context: Context, lines: Iterable[str]) -> None:
    for line in lines:
        context.out(line)


def _write(context: Context, path: str, text: str) -> None:
    if not path:
        context.out(text.removesuffix("\n"))
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as e:
        raise CommandError(f"open {path}: {(e.strerror or '').lower()}") from None


def _used(of: Project) -> dict[str, dict[str, Any]]:
    """What the enabled services use of the project's networks, volumes, secrets and configs."""
    names: dict[str, set[str]] = {kind: set() for kind in _TOP[2:6]}
    for service in of.services.values():
        names["networks"] |= set(service.get("networks") or ())
        mounted = [volume for volume in service.get("volumes") or () if volume["type"] == "volume"]
        names["volumes"] |= {volume["source"] for volume in mounted if "source" in volume}
        for kind in ("secrets", "configs"):
            names[kind] |= {entry["source"] for entry in service.get(kind) or ()}
    return {
        kind: {key: value for key, value in (of.document.get(kind) or {}).items() if key in used}
        for kind, used in names.items()
    }


def _canonical(of: Project) -> dict[str, Any]:
    document: dict[str, Any] = {**of.document, **_used(of), "services": of.services}
    out = {key: _sorted(document[key]) for key in _TOP if document.get(key)}
    return out | {key: value for key, value in document.items() if key.startswith("x-")}


def _sorted(value: Any) -> Any:
    """Keys in their order, as the canonical form has them; what nothing is said of is left out."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _escaped(value: Any) -> Any:
    """What it says, for a reader that takes $ for the beginning of a variable."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: item if key.startswith("x-") else _escaped(item) for key, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list) else value


def _variables(context: Context) -> None:
    of = loading.load(context, interpolate=False, check=False, resolve_environment=False, quiet=True)
    lines = ["NAME\tREQUIRED\tDEFAULT VALUE\tALTERNATE VALUE"]
    for name, (required, default, alternative) in sorted(variables(of.document).items()):
        lines.append(f"{name}\t{str(required).lower()}\t{default}\t{alternative}")
    context.out(align(os.linesep.join(lines)))


_FLAGS = (
    ("environment", "Print environment used for interpolation."),
    ("images", "Print the image names, one per line."),
    ("lock-image-digests", "Produces an override file with image digests"),
    ("models", "Print the model names, one per line."),
    ("networks", "Print the network names, one per line."),
    ("no-consistency", "Don't check model consistency - warning: may produce invalid Compose output"),
    ("no-env-resolution", "Don't resolve service env files"),
    ("no-interpolate", "Don't interpolate environment variables"),
    ("no-normalize", "Don't normalize compose model"),
    ("no-path-resolution", "Don't resolve file paths"),
    ("profiles", "Print the profile names, one per line."),
    ("resolve-image-digests", "Pin image tags to digests"),
    ("services", "Print the service names, one per line."),
    ("variables", "Print model variables and default values."),
    ("volumes", "Print the volume names, one per line."),
)
COMMAND = Command(
    "[OPTIONS] [SERVICE...]",
    "Parse, resolve and render compose file in canonical format",
    run,
    flags=(
        *((name, "", "bool", False, text) for name, text in _FLAGS),
        ("format", "", "string", "", "Format the output. Values: [yaml | json]"),
        ("hash", "", "string", "", "Print the service config hash, one per line."),
        ("output", "o", "string", "", "Save to file (default to stdout)"),
        ("quiet", "q", "bool", False, "Only validate the configuration, don't print anything"),
    ),
    args=ANY_ARGS,
)
