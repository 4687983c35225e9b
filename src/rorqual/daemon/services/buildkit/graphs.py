"""The one kind of graph there is here: an image of this engine, as a client hands a build's result to another build.

Source: buildkit's solver/pb (LLB). The client reads as much of it as it needs to pass it on, and no more.
"""

from __future__ import annotations

import hashlib

from google.protobuf.message import DecodeError

from rorqual.errdefs import NotImplementedHere
from rorqual.rpc.proto.buildkit_gateway_pb2 import Definition, Input, Op, SourceOp

NOT_OFFERED = "a build graph of the client's own (LLB) is not offered: build a Dockerfile"
_IMAGE = "docker-image://rorqual.build/step@"


def of_image(id: str) -> Definition:
    """A graph that stands for an image."""
    source = Op(source=SourceOp(identifier=_IMAGE + id)).SerializeToString(deterministic=True)
    digest = f"sha256:{hashlib.sha256(source).hexdigest()}"
    graph = Definition(metadata={digest: b""})
    getattr(graph, "def").extend([source, Op(inputs=[Input(digest=digest)]).SerializeToString(deterministic=True)])
    return graph


def image_of(definition: Definition) -> str:
    """The ID of the image that a graph stands for. Raises: NotImplementedHere for any other graph."""
    found = []
    for data in getattr(definition, "def"):
        try:
            found.append(Op.FromString(data))
        except DecodeError as e:
            raise NotImplementedHere("a build graph that cannot be read") from e
    sources = [op.source.identifier for op in found if op.HasField("source")]
    if len(found) != 2 or len(sources) != 1 or not sources[0].startswith(_IMAGE):
        raise NotImplementedHere(NOT_OFFERED)
    return sources[0].removeprefix(_IMAGE)
