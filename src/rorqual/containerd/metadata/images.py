"""Images: names for content, in a namespace."""

from __future__ import annotations

import time
from typing import Any

from rorqual.containerd.metadata.database import Database
from rorqual.containerd.metadata.namespaces import Namespaces
from rorqual.containerd.metadata.records import Descriptor, Image, dump, load, masked_labels
from rorqual.errdefs import AlreadyExists, InvalidArgument, NotFound

_COLUMNS = "name, labels, media_type, digest, size, annotations, created_ns, updated_ns"


class Images:
    """The store. A commit here is not yet durable: callers await Database.durable() before they answer."""

    def __init__(self, db: Database, namespaces: Namespaces) -> None:
        self._db = db
        self._namespaces = namespaces

    def get(self, ns: str, name: str) -> Image:
        """Raises NotFound."""
        row = self._db.row(f"SELECT {_COLUMNS} FROM images WHERE ns = ? AND name = ?", ns, name)
        if row is None:
            raise NotFound(f'image "{name}": not found')
        return _image(row)

    def all(self, ns: str) -> list[Image]:
        """All of a namespace, by name."""
        return [_image(row) for row in self._db.rows(f"SELECT {_COLUMNS} FROM images WHERE ns = ?", ns)]

    def create(self, ns: str, image: Image) -> Image:
        """The image with its times. Raises AlreadyExists, InvalidArgument."""
        _check(image)
        if self._db.row("SELECT 1 FROM images WHERE ns = ? AND name = ?", ns, image.name):
            raise AlreadyExists(f'image "{image.name}": already exists')
        self._namespaces.ensure(ns)
        now = time.time_ns()
        return self._put(ns, Image(image.name, image.target, image.labels, now, now))

    def update(self, ns: str, image: Image, paths: list[str]) -> Image:
        """The image after the update; no `paths`: labels and target. Raises NotFound, InvalidArgument."""
        old = self.get(ns, image.name)
        labels, target = dict(old.labels), old.target
        for path in paths or ["labels", "target"]:
            if path == "target":
                target = image.target
            elif path == "annotations":
                target = Descriptor(target.media_type, target.digest, target.size, image.target.annotations)
            elif path == "labels" or path.startswith("labels."):
                labels = masked_labels(labels, image.labels, [path])
            else:
                raise InvalidArgument(f'cannot update "{path}" field on image "{image.name}"')
        updated = Image(image.name, target, labels, old.created_ns, time.time_ns())
        _check(updated)
        return self._put(ns, updated)

    def delete(self, ns: str, name: str, digest: str = "") -> None:
        """Raises NotFound, also when it points at another `digest` than the given one."""
        image = self.get(ns, name)
        if digest and image.target.digest != digest:
            raise NotFound(f'image "{name}" has target {image.target.digest}, not {digest}: not found')
        self._db.execute("DELETE FROM images WHERE ns = ? AND name = ?", (ns, name))

    def _put(self, ns: str, image: Image) -> Image:
        target = image.target
        self._db.execute(
            "INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                ns,
                image.name,
                dump(image.labels),
                target.media_type,
                target.digest,
                target.size,
                dump(target.annotations),
                image.created_ns,
                image.updated_ns,
            ),
        )
        return image


def _image(row: tuple[Any, ...]) -> Image:
    name, labels, media_type, digest, size, annotations, created_ns, updated_ns = row
    return Image(name, Descriptor(media_type, digest, size, load(annotations)), load(labels), created_ns, updated_ns)


def _check(image: Image) -> None:
    if not image.name:
        raise InvalidArgument("image name must not be empty")
    if not image.target.digest or not image.target.media_type:
        raise InvalidArgument(f'image "{image.name}": target needs a digest and a media type')
    if image.target.size <= 0:
        raise InvalidArgument(f'image "{image.name}": target size must be positive')
