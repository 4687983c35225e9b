"""Indexes being put together: one directory each below the client's configuration, one JSON file a manifest.

    <config>/manifests/<name of the index>/<name of the manifest>

Names are references with `/` and `:` replaced, as the docker CLI keeps them. Source: docker/cli cli/manifest/store.
"""

from __future__ import annotations

import json
import os
import shutil

from rorqual.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rorqual.cli.command import Context
    from rorqual.oci.reference import Reference

    JSON = dict[str, Any]


def _file_name(reference: Reference) -> str:
    return str(reference).replace(":", "-").replace("/", "_")


class Drafts:
    """All drafts of a user."""

    def __init__(self, context: Context) -> None:
        self._root = os.path.join(os.path.dirname(context.config.path), "manifests")

    def _directory(self, index: Reference) -> str:
        return os.path.join(self._root, _file_name(index))

    def manifests(self, index: Reference) -> list[JSON]:
        """The manifests of a draft, in their names' order; [] when there is none. Raises: CommandError."""
        found = []
        try:
            names = sorted(os.listdir(self._directory(index)))
        except FileNotFoundError:
            return []
        for name in names:
            try:
                with open(os.path.join(self._directory(index), name), encoding="utf-8") as file:
                    found.append(json.load(file))
            except (OSError, ValueError) as e:
                raise CommandError(f"manifest draft {name} cannot be read: {e}") from e
        return found

    def get(self, index: Reference, manifest: Reference) -> JSON | None:
        """One manifest of a draft."""
        return next((m for m in self.manifests(index) if m["Ref"] == str(manifest)), None)

    def save(self, index: Reference, entry: JSON) -> None:
        """Adds or replaces a manifest, by its Ref."""
        from rorqual.oci.reference import parse

        os.makedirs(self._directory(index), mode=0o755, exist_ok=True)
        path = os.path.join(self._directory(index), _file_name(parse(entry["Ref"])))
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(entry, file)
        os.replace(path + ".new", path)

    def remove(self, index: Reference) -> bool:
        """Whether there was such a draft."""
        if not os.path.isdir(self._directory(index)):
            return False
        shutil.rmtree(self._directory(index))
        return True
