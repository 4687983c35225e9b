"""`rorqual version`."""

from __future__ import annotations

import json
import platform
import sys
import time

from rorqual import errdefs
from rorqual.cli.command import Command, Context
from rorqual.cli.errors import Exit
from rorqual.cli.formats import INSPECT_FORMAT
from rorqual.cli.render import error_text
from rorqual.client.engine import API_VERSION
from rorqual.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.flags import Values

    JSON = dict[str, Any]

EXIT_TEMPLATE = 64
_GO_NAMES = {"APIVersion": "ApiVersion"}
_OMITTED = {
    "Experimental": False, "KernelVersion": "", "BuildTime": "", "MinAPIVersion": "", "Components": [],
    "Platform": None,
}  # fmt: skip
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


def client_version(context: Context, negotiated: str) -> JSON:
    """The client's half."""
    return {
        "Version": __version__,
        "ApiVersion": negotiated,
        "DefaultAPIVersion": API_VERSION,
        "GitCommit": "",  # these three for scripts that ask docker's client for them
        "GoVersion": f"python{platform.python_version()}",
        "Os": sys.platform,
        "Arch": _MACHINES.get(platform.machine(), platform.machine()),
        "BuildTime": "",
        "Context": context.contexts.current(),
    }


def run(context: Context, flags: Values, args: list[str]) -> int:
    format = flags.string("format")
    server: JSON | None = None
    failure = ""
    negotiated = API_VERSION
    try:
        server = context.client.system.version()
        negotiated = context.client.api_version
    except errdefs.Error as e:
        failure = error_text(e)
    info: JSON = {"Client": client_version(context, negotiated), "Server": server}
    if format == "json":
        context.out(json.dumps(info, separators=(",", ":"), ensure_ascii=False))
    elif format:
        _templated(info, format)
    else:
        sys.stdout.write(_client_text(info["Client"]))
        if server is not None:
            sys.stdout.write("\n" + _server_text(server))
    if failure:
        raise Exit(1, failure)
    return 0


def _templated(info: JSON, format: str) -> None:
    from rorqual.cli.gotemplate import TemplateError, parse
    from rorqual.cli.gotemplate.docker import FUNCTIONS
    from rorqual.cli.gotemplate.structs import members, struct

    try:
        template = parse("version", format, FUNCTIONS)
    except TemplateError as e:
        raise Exit(EXIT_TEMPLATE, f"template parsing error: {e}") from e
    server = info["Server"]
    if server is not None:
        server = members(server, {"Platform": "struct { Name string }"})
        components = server.get("Components") or ()
        server["Components"] = [struct("types.ComponentVersion", component) for component in components]
    shown = {
        "Client": struct("system.clientVersion", info["Client"], names=_GO_NAMES),
        "Server": struct("*types.Version", server, names=_GO_NAMES, omitted=_OMITTED) if server is not None else None,
    }
    try:
        sys.stdout.write(template.execute(struct("system.versionInfo", shown)) + "\n")
    except TemplateError as e:
        sys.stdout.write(e.partial + "\n")
        raise Exit(1, str(e)) from e


def _client_text(client: JSON) -> str:
    api = client["ApiVersion"]
    if api != client["DefaultAPIVersion"]:
        api += f" (downgraded from {client['DefaultAPIVersion']})"
    return (
        "Client: Rorqual\n"
        f" Version:           {client['Version']}\n"
        f" API version:       {api}\n"
        f" Python version:    {client['GoVersion'].removeprefix('python')}\n"
        f" OS/Arch:           {client['Os']}/{client['Arch']}\n"
        f" Context:           {client['Context']}\n"
    )


def _server_text(server: JSON) -> str:
    name = (server.get("Platform") or {}).get("Name", "")
    lines = [f"Server: {name}" if name else "Server:"]
    components = server.get("Components") or [_as_component(server)]
    for component in components:
        details = component.get("Details") or {}
        if component["Name"] == "Engine":
            lines += [
                " Engine:",
                f"  Version:          {component['Version']}",
                f"  API version:      {details.get('ApiVersion', '')} "
                f"(minimum version {details.get('MinAPIVersion', '')})",
            ]
            lines += [f"  {label:<17} {details[key]}" for label, key in _ENGINE_LINES if details.get(key)]
            lines += [
                f"  Built:            {_built(details.get('BuildTime', ''))}",
                f"  OS/Arch:          {details.get('Os', '')}/{details.get('Arch', '')}",
                f"  Experimental:     {details.get('Experimental', 'false')}",
            ]
        else:
            lines += [f" {component['Name']}:", f"  Version:          {component['Version']}"]
            lines += [f"  {key + ':':<17} {details[key]}" for key in sorted(details)]
    return "\n".join(lines) + "\n"


_ENGINE_LINES = (("Go version:", "GoVersion"), ("Python version:", "PythonVersion"), ("Git commit:", "GitCommit"))


def _built(text: str) -> str:
    """An RFC 3339 time as `Thu May  7 21:09:36 2026`; anything else as it is."""
    from rorqual.cli.units import parse_rfc3339

    try:
        return time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(parse_rfc3339(text))) if text else ""
    except ValueError:
        return text


def _as_component(server: JSON) -> JSON:
    """The engine as a component, for engines that list none."""
    keys = ("ApiVersion", "MinAPIVersion", "GitCommit", "GoVersion", "Os", "Arch", "BuildTime")
    return {"Name": "Engine", "Version": server.get("Version", ""), "Details": {k: server.get(k, "") for k in keys}}


COMMAND = Command(
    "[OPTIONS]",
    "Show the Rorqual version information",
    run,
    flags=(INSPECT_FORMAT,),
)
