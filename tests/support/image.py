"""Images for tests: a busybox image's layers, and layers of given files."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from support.busybox import rootfs_tar

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer_tar(files: Mapping[str, bytes]) -> bytes:
    """A tar of regular files; a name that ends in `/` is a directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name.rstrip("/"))
            entry.mtime = 1_700_000_000
            if name.endswith("/"):
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            else:
                entry.size, entry.mode = len(content), 0o644
                tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def busybox_layers() -> list[bytes]:
    """The tars of a busybox image, the bottom first."""
    return [rootfs_tar(), layer_tar({"etc/": b"", "etc/motd": b"a second layer\n"})]


@dataclass(frozen=True)
class BuiltImage:
    """An image's documents and blobs; `blobs` by digest."""

    manifest: bytes
    manifest_type: str
    config: bytes
    layers: tuple[bytes, ...]
    diff_ids: tuple[str, ...]

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)

    @property
    def blobs(self) -> dict[str, bytes]:
        return {digest_of(blob): blob for blob in (self.config, *self.layers)}


def build(
    tars: Sequence[bytes], config: Mapping[str, object] | None = None, *, architecture: str = "amd64", level: int = 1
) -> BuiltImage:
    """An image of gzip layers made of `tars`; `config` is the container part of its config. `level` 0 = not packed."""
    blobs = tuple(gzip.compress(tar, level, mtime=0) if level else tar for tar in tars)
    diff_ids = tuple(digest_of(tar) for tar in tars)
    image = {
        "architecture": architecture,
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": dict(config or {"Cmd": ["/bin/sh"], "Env": ["PATH=/usr/bin:/bin"]}),
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        "history": [{"created_by": f"layer {number}"} for number in range(len(tars))],
    }
    image_bytes = json.dumps(image).encode()
    layer_type = "application/vnd.docker.image.rootfs.diff.tar" + (".gzip" if level else "")
    manifest = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": len(image_bytes),
            "digest": digest_of(image_bytes),
        },
        "layers": [{"mediaType": layer_type, "size": len(blob), "digest": digest_of(blob)} for blob in blobs],
    }
    return BuiltImage(json.dumps(manifest).encode(), DOCKER_MANIFEST, image_bytes, blobs, diff_ids)


OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
IN_TOTO = "application/vnd.in-toto+json"
PROVENANCE = "https://slsa.dev/provenance/v1"


def attestation(subject: str, statements: Mapping[str, Mapping[str, object]]) -> BuiltImage:
    """What BuildKit attests of the manifest `subject`: an in-toto statement for each predicate type."""
    layers = tuple(
        json.dumps({"_type": "https://in-toto.io/Statement/v1", "predicateType": type, "predicate": predicate}).encode()
        for type, predicate in statements.items()
    )
    digests = [digest_of(layer) for layer in layers]
    config = json.dumps(
        {"architecture": "unknown", "os": "unknown", "rootfs": {"type": "layers", "diff_ids": digests}}
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "size": len(config),
            "digest": digest_of(config),
        },
        "layers": [
            {
                "mediaType": IN_TOTO,
                "size": len(layer),
                "digest": digest_of(layer),
                "annotations": {"in-toto.io/predicate-type": type},
            }
            for type, layer in zip(statements, layers, strict=True)
        ],
        "subject": {"mediaType": DOCKER_MANIFEST, "digest": subject, "size": 1},
    }
    return BuiltImage(json.dumps(manifest).encode(), OCI_MANIFEST, config, layers, tuple(digests))


def index_of(images: Mapping[str, BuiltImage], attestations: Mapping[str, BuiltImage] | None = None) -> bytes:
    """An OCI index: `images` by platform (`linux/amd64`), `attestations` by the digest of what they attest."""
    entries: list[dict[str, object]] = []
    for platform, image in images.items():
        system, architecture, *variant = platform.split("/")
        described = {"os": system, "architecture": architecture, **({"variant": variant[0]} if variant else {})}
        entries.append({**_entry(image), "platform": described})
    for subject, image in (attestations or {}).items():
        annotations = {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": subject,
        }
        unknown = {"os": "unknown", "architecture": "unknown"}
        entries.append({**_entry(image), "annotations": annotations, "platform": unknown})
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()


def _entry(image: BuiltImage) -> dict[str, object]:
    return {"mediaType": image.manifest_type, "size": len(image.manifest), "digest": image.digest}
