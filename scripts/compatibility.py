"""Writes docs/compatibility.md from the code: every Engine API operation and every command, and whether it is there.

    python scripts/compatibility.py            write it
    python scripts/compatibility.py --check    exit status 1 when the page is not what would be written

What exists is read from the code itself: the routes that rorquald registers and the command line's table of commands.
What Docker has is in docs/spec/: operations of Engine API v1.56, and commands of its CLI 28 as `--help` prints them.
Remarks are in docs/spec/remarks.tsv. The runtime's part is docs/spec/oci-validation.tsv.
"""

import argparse
import difflib
import importlib.util
import pkgutil
import re
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SPEC = REPOSITORY / "docs" / "spec"
PAGE = REPOSITORY / "docs" / "compatibility.md"
DOCKER_PY = REPOSITORY / "tests" / "conformance" / "docker_py" / "expected.tsv"


@dataclass(frozen=True, slots=True)
class Row:
    """One operation or command of Docker's."""

    name: str
    group: str
    here: bool


def lines_of(name: str) -> list[list[str]]:
    """The fields of a table in docs/spec, without comments."""
    text = (SPEC / name).read_text()
    return [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]


def shape(path: str) -> str:
    """A path with every parameter written alike: `{name:.*}` and `{id}` are the same place."""
    return re.sub(r"\{[^}]*\}", "{}", path)


def registered_routes() -> set[tuple[str, str]]:
    """(method, shape) of what rorquald answers, from the tables of its modules of routes."""
    import rorqual.daemon.api as package

    found = set()
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        for name, kind in vars(importlib.import_module(module.name)).items():
            if name.endswith("Routes") and isinstance(kind, type):
                # The table needs none of the services that the routes call, so none is made.
                found |= {(route.method, shape(route.pattern)) for route in object.__new__(kind).routes()}
    return found


def command_here(words: list[str]) -> bool:
    """The command line knows these words and the module that carries them out exists."""
    from rorqual.cli import registry

    found = registry.find(words)
    return bool(
        found and found[1] == len(words) and importlib.util.find_spec(f"rorqual.cli.commands.{found[0]}") is not None
    )


def operations() -> list[Row]:
    routes = registered_routes()
    return [
        Row(f"`{method} {path}`", path.split("/")[1], (method, shape(path)) in routes)
        for method, path, *_ in lines_of("engine-endpoints.tsv")
    ]


def commands(table: str) -> list[Row]:
    rows = []
    for name, *_ in lines_of(table):
        words = name.split()
        rows.append(Row(f"`{name}`", words[0] if len(words) > 1 else "top level", command_here(words)))
    return rows


def table(rows: list[Row], kind: str, remarks: dict[str, str]) -> list[str]:
    out = [f"{sum(row.here for row in rows)} of {len(rows)}.", ""]
    for group in dict.fromkeys(row.group for row in rows):
        out += [f"| {group}: {kind} | state | remark |", "|---|---|---|"]
        for row in (row for row in rows if row.group == group):
            out.append(f"| {row.name} | {'yes' if row.here else 'no'} | {remarks.get(row.name.strip('`'), '')} |")
        out.append("")
    return out


def validation() -> list[str]:
    """The programs of the OCI validation suite, as tests/conformance/oci/run.py last found them, beside runc's."""
    rows = lines_of("oci-validation.tsv")
    ours, peer = (sum(row[column] == "pass" for row in rows) for column in (1, 2))
    return [
        f"Of the {len(rows)} programs of the OCI validation suite {ours} pass; runc 1.1.5 on the same machine: {peer}.",
        "",
        "| program | here | runc | why it fails |",
        "|---|---|---|---|",
        *(f"| {name} | {here} | {there} | {why} |" for name, here, there, why in rows),
    ]


def docker_py() -> list[str]:
    """Each test of docker-py's, as tests/conformance/docker_py/run.py last found it here and with dockerd 20.10."""
    lines = DOCKER_PY.read_text().splitlines()
    rows = [(*line.split("\t"), "")[:3] for line in lines if line and not line.startswith("#")]
    ours, peer = (sum(row[column] == "pass" for row in rows) for column in (1, 2))
    both = sum(row[1] == row[2] == "pass" for row in rows)
    return [
        f"Of {len(rows)} integration tests of docker-py 7.0.0 {ours} pass; with dockerd 20.10 on the same machine",
        f"{peer}, {both} of these here too.",
        "",
        "| test | here | dockerd 20.10 |",
        "|---|---|---|",
        *(f"| {name.replace('.py::', ': ').replace('::', '.')} | {here} | {there} |" for name, here, there in rows),
        "",
    ]


def page() -> str:
    """The whole page."""
    remarks = {fields[0]: fields[1] for fields in lines_of("remarks.tsv")}
    out = [
        "# Compatibility",
        "",
        "What of Docker is here. Generated by `make compatibility` from the code; a test keeps it true.",
        "*yes* means that the operation is registered, or the command offered, and does what Docker's does for Linux",
        "containers but for what the remark says; *no* means that it is refused: 404 `page not found`, or an unknown",
        "command. A command can be offered before the operation that it calls: it then shows that refusal.",
        "",
        "## Engine API v1.56",
        "",
        *table(operations(), "operation", remarks),
        "## Command line (Docker CLI 28)",
        "",
        *table(commands("cli-commands.tsv"), "command", remarks),
        "## Compose",
        "",
        *table(commands("compose-commands.tsv"), "command", remarks),
        "## docker-py",
        "",
        *docker_py(),
        "## OCI runtime (`rorqual-runc`)",
        "",
        *validation(),
    ]
    return "\n".join(out).rstrip() + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    wanted = page()
    if not options.check:
        PAGE.write_text(wanted)
        return 0
    present = PAGE.read_text() if PAGE.exists() else ""
    sys.stdout.writelines(
        difflib.unified_diff(present.splitlines(True), wanted.splitlines(True), "the page", "the code", n=0)
    )
    return int(present != wanted)


if __name__ == "__main__":
    sys.exit(main())
