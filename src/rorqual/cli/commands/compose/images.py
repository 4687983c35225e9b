"""`rorqual compose images`."""

from __future__ import annotations

import json
from typing import Any

from rorqual import errdefs
from rorqual.cli import units
from rorqual.cli.command import ANY_ARGS, Command, Context
from rorqual.cli.commands.compose import loading
from rorqual.cli.errors import CommandError
from rorqual.cli.flags import Values
from rorqual.cli.table import align
from rorqual.compose import observe

JSON = dict[str, Any]


def run(context: Context, flags: Values, args: list[str]) -> None:
    format = flags.string("format")
    if format not in ("table", "json"):
        raise CommandError(f"unsupported format {format}")
    named = loading.known(context)
    loading.check_services(named, args)
    rows: list[JSON] = []
    for seen in observe.everything(context.client, named.name, services=args):
        try:
            image = context.client.images.inspect(seen.summary["ImageID"])
        except errdefs.NotFound:
            continue
        name = next(iter(image.get("RepoTags") or ()), "<none>:<none>")
        wanted = seen.summary["Image"]
        if wanted in (image.get("RepoTags") or ()) or f"{wanted}:latest" in (image.get("RepoTags") or ()):
            name = wanted if ":" in wanted.rpartition("/")[2] else f"{wanted}:latest"
        repository, _, tag = name.rpartition(":")
        platform = "/".join(filter(None, (image.get("Os"), image.get("Architecture"), image.get("Variant"))))
        rows.append(
            {
                "ID": image["Id"], "ContainerName": seen.name, "Repository": repository, "Tag": tag,
                "Platform": platform, "Size": image["Size"], "Created": image.get("Created"),
            }
        )  # fmt: skip
    if flags.boolean("quiet"):
        for id in dict.fromkeys(row["ID"].removeprefix("sha256:") for row in rows):
            context.out(id)
    elif format == "json":
        context.out(json.dumps(rows))
    else:
        lines = ["CONTAINER\tREPOSITORY\tTAG\tPLATFORM\tIMAGE ID\tSIZE\tCREATED"]
        lines += [
            "\t".join(
                (
                    row["ContainerName"], row["Repository"], row["Tag"], row["Platform"], units.truncate_id(row["ID"]),
                    units.human_size(row["Size"], 3),
                    units.ago(units.parse_rfc3339(row["Created"])) if row["Created"] else "N/A",
                )
            )
            for row in rows
        ]  # fmt: skip
        context.out(align("\n".join(lines)))


COMMAND = Command(
    "[OPTIONS] [SERVICE...]",
    "List images used by the created containers",
    run,
    flags=(
        ("format", "", "string", "table", 'Format the output. Values: [table | json] (default "table")'),
        ("quiet", "q", "bool", False, "Only display IDs"),
    ),
    args=ANY_ARGS,
)
