"""The images between a build's steps: each step's is kept without a name, as the next one's parent and as cache.

Source: moby's builder/dockerfile (imageprobe, dispatchers): an image is found again by its parent, by how it was made,
and by the config that it has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rorqual.api.config import ContainerConfig
from rorqual.daemon.services import clock
from rorqual.daemon.services.images.commit import image_config
from rorqual.daemon.services.images.library import Library, LocalImage
from rorqual.daemon.services.images.making import MadeLayer, Maker
from rorqual.daemon.spec import merge
from rorqual.oci.descriptor import Descriptor
from rorqual.oci.platform import Platform


@dataclass(frozen=True, slots=True)
class State:
    """Where a stage is: its config so far, and the image that its last step made; None before the first on scratch."""

    config: ContainerConfig
    platform: Platform
    image: LocalImage | None = None
    author: str = ""

    @property
    def id(self) -> str:
        """The image's ID, "" for none."""
        return self.image.id if self.image is not None else ""

    @property
    def history(self) -> list[Any]:
        """What its image was made by."""
        return json.loads(self.image.image.raw).get("history") or [] if self.image is not None else []


def begun(image: LocalImage | None, platform: Platform) -> State:
    """A stage after its FROM."""
    if image is None:
        return State(ContainerConfig(), platform)
    return State(merge.of_image(image.image.config), image.image.platform, image)


class StepImages:
    """Makes and finds the images of steps. Called under the lease; `hold` keeps an image from being removed."""

    def __init__(self, library: Library, maker: Maker, hold: Callable[[str], None]) -> None:
        self._library = library
        self._hold = hold
        self._maker = maker

    def known(self, state: State, config: ContainerConfig, made_by: str) -> State | None:
        """What the step gave before, None when it was not done yet."""
        wanted, length = image_config(config).to_json(), len(state.history) + 1
        found: list[tuple[str, LocalImage]] = []
        for image in self._library.names().values():
            if not image.built or image.parent != state.id:
                continue  # what came from elsewhere may say of itself whatever it likes
            document = json.loads(image.image.raw)
            history = document.get("history") or []
            if len(history) != length or history[-1].get("created_by") != made_by:
                continue
            if document.get("config") == wanted and image.image.platform == state.platform:
                found.append((str(document.get("created", "")), image))
        if not found:
            return None
        newest = max(found, key=lambda pair: pair[0])[1]
        self._hold(newest.id)
        return replace(state, config=config, image=newest)

    def stands_on(self, image: LocalImage, id: str) -> bool:
        """Whether `image` is the image `id`, or was made from it here."""
        by_id = self._library.by_id()
        current: LocalImage | None = image
        while current is not None and current.id != id:
            current = by_id.get(current.parent)
        return current is not None

    async def borrowed(
        self, state: State, config: ContainerConfig, made_by: str, sources: Sequence[LocalImage]
    ) -> State | None:
        """As `known`, of images that came from elsewhere (--cache-from) and begin with what this stage has so far."""
        layers = state.image.image.diff_ids if state.image is not None else ()
        history = state.history
        for source in sources:
            document = json.loads(source.image.raw)
            theirs = document.get("history") or []
            if len(theirs) <= len(history) or source.image.diff_ids[: len(layers)] != tuple(layers):
                continue
            if any(a.get("created_by") != b.get("created_by") for a, b in zip(history, theirs, strict=False)):
                continue
            step = theirs[len(history)]
            if step.get("created_by") != made_by or source.image.platform != state.platform:
                continue
            if step.get("empty_layer"):
                return await self._store(state, config, step, None)
            if len(source.image.diff_ids) > len(layers):
                number = len(layers)
                return await self._store(
                    state, config, step, (source.manifest.layers[number], str(source.image.diff_ids[number]))
                )
        return None

    async def made(self, state: State, config: ContainerConfig, made_by: str, layer: MadeLayer | None) -> State:
        """The image of a step that was just done; `layer` is placed."""
        step: dict[str, Any] = {"created": clock.rfc3339(clock.now_ns()), "created_by": made_by}
        if state.author:
            step["author"] = state.author
        if layer is None:
            step["empty_layer"] = True
            return await self._store(state, config, step, None)
        chain = state.image.image.chain_ids if state.image is not None else ()
        await self._maker.place(layer, chain[-1] if chain else None)
        return await self._store(state, config, step, (layer.descriptor, str(layer.diff_id)))

    async def _store(
        self, state: State, config: ContainerConfig, step: dict[str, Any], layer: tuple[Descriptor, str] | None
    ) -> State:
        base = state.image
        diff_ids = [str(diff_id) for diff_id in base.image.diff_ids] if base is not None else []
        layers = list(base.manifest.layers) if base is not None else []
        if layer is not None:
            layers.append(layer[0])
            diff_ids.append(layer[1])
        document: dict[str, Any] = {
            "architecture": state.platform.architecture,
            "config": image_config(config).to_json(),
            "created": step["created"],
            "history": [*state.history, step],
            "os": state.platform.os,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        if state.author:
            document["author"] = state.author
        old = json.loads(base.image.raw) if base is not None else {}
        for key in ("variant", "os.version", "os.features"):
            if key in old:
                document[key] = old[key]
        if state.platform.variant:
            document["variant"] = state.platform.variant
        raw = json.dumps(document, separators=(",", ":")).encode()
        image = replace(await self._maker.image(raw, layers), parent=state.id, built=True)
        self._hold(image.id)
        await self._library.keep(image)
        return replace(state, config=config, image=image)
