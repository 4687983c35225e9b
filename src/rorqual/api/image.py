"""Images, progress streams and registry credentials. Source: Engine API 1.56, Image."""

# ruff: noqa: RUF009  (wire() declares a field, as dataclasses.field does)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rorqual.api.codec import wire
from rorqual.api.config import ContainerConfig, HealthConfig
from rorqual.api.container import DriverData


@dataclass(frozen=True, slots=True)
class ImageRootFS:
    """The layers of an image, by diff ID."""

    type: str = wire("Type", "")
    layers: tuple[str, ...] | None = wire("Layers", None, omit=True)


@dataclass(frozen=True, slots=True)
class ImageMetadata:
    """What the engine itself knows of an image."""

    last_tag_time: str = wire("LastTagTime", "")


@dataclass(frozen=True, slots=True)
class OCIPlatform:
    """What a manifest is for."""

    architecture: str = wire("architecture", "")
    os: str = wire("os", "")
    os_version: str = wire("os.version", "", omit=True)
    os_features: tuple[str, ...] | None = wire("os.features", None, omit=True)
    variant: str = wire("variant", "", omit=True)


@dataclass(frozen=True, slots=True)
class OCIDescriptor:
    """A descriptor: what a digest names."""

    media_type: str = wire("mediaType", "", omit=True)
    digest: str = wire("digest", "", omit=True)
    size: int = wire("size", 0, omit=True)
    annotations: Mapping[str, str] | None = wire("annotations", None, omit=True)
    platform: OCIPlatform | None = wire("platform", None, omit=True)


@dataclass(frozen=True, slots=True)
class ManifestSize:
    """Bytes: of the blobs here, and with what they unpack to."""

    total: int = wire("Total", 0)
    content: int = wire("Content", 0)


@dataclass(frozen=True, slots=True)
class PullIdentity:
    """A repository that has the image under its digest."""

    repository: str = wire("Repository", "", omit=True)


@dataclass(frozen=True, slots=True)
class Identity:
    """Where an image comes from."""

    pull: tuple[PullIdentity, ...] | None = wire("Pull", None, omit=True)


@dataclass(frozen=True, slots=True)
class AttestationStatement:
    """An entry of GET /images/{name}/attestations; `statement` the in-toto document, when it was asked for."""

    descriptor: OCIDescriptor = wire("Descriptor", OCIDescriptor())
    predicate_type: str = wire("PredicateType", "")
    statement: Mapping[str, Any] | None = wire("Statement", None, omit=True)


@dataclass(frozen=True, slots=True)
class ImageDataSize:
    """Bytes of the unpacked layers."""

    unpacked: int = wire("Unpacked", 0)


@dataclass(frozen=True, slots=True)
class ImageData:
    """Of a manifest that is an image's."""

    platform: OCIPlatform | None = wire("Platform", None)
    containers: tuple[str, ...] = wire("Containers", ())
    size: ImageDataSize = wire("Size", ImageDataSize())
    identity: Identity | None = wire("Identity", None, omit=True)


@dataclass(frozen=True, slots=True)
class AttestationData:
    """Of a manifest that is an attestation: the digest of the image's."""

    for_: str = wire("For", "")


@dataclass(frozen=True, slots=True)
class ManifestSummary:
    """One manifest behind a name; `kind` is image, attestation or unknown."""

    id: str = wire("ID", "")
    descriptor: OCIDescriptor = wire("Descriptor", OCIDescriptor())
    available: bool = wire("Available", False)
    size: ManifestSize = wire("Size", ManifestSize())
    kind: str = wire("Kind", "")
    image_data: ImageData | None = wire("ImageData", None, omit=True)
    attestation_data: AttestationData | None = wire("AttestationData", None, omit=True)


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The defaults an image gives to its containers."""

    user: str = wire("User", "", omit=True)
    exposed_ports: Mapping[str, Any] | None = wire("ExposedPorts", None, omit=True)
    env: tuple[str, ...] | None = wire("Env", None, omit=True)
    entrypoint: tuple[str, ...] | None = wire("Entrypoint", None, omit=True)
    cmd: tuple[str, ...] | None = wire("Cmd", None, omit=True)
    volumes: Mapping[str, Any] | None = wire("Volumes", None, omit=True)
    working_dir: str = wire("WorkingDir", "", omit=True)
    labels: Mapping[str, str] | None = wire("Labels", None, omit=True)
    stop_signal: str = wire("StopSignal", "", omit=True)
    healthcheck: HealthConfig | None = wire("Healthcheck", None, omit=True)
    on_build: tuple[str, ...] | None = wire("OnBuild", None, omit=True)
    args_escaped: bool = wire("ArgsEscaped", False, omit=True)
    shell: tuple[str, ...] | None = wire("Shell", None, omit=True)


@dataclass(frozen=True, slots=True)
class ImageInspect:
    """Answer of GET /images/{name}/json."""

    id: str = wire("Id", "")
    descriptor: OCIDescriptor | None = wire("Descriptor", None, omit=True)
    repo_tags: tuple[str, ...] = wire("RepoTags", ())
    repo_digests: tuple[str, ...] = wire("RepoDigests", ())
    parent: str = wire("Parent", "")
    comment: str = wire("Comment", "")
    created: str = wire("Created", "", omit=True)
    container: str = wire("Container", "", omit=True)
    container_config: ContainerConfig | None = wire("ContainerConfig", None, omit=True)
    docker_version: str = wire("DockerVersion", "", omit=True)
    author: str = wire("Author", "")
    config: ImageConfig | None = wire("Config", None)
    architecture: str = wire("Architecture", "")
    variant: str = wire("Variant", "", omit=True)
    os: str = wire("Os", "")
    os_version: str = wire("OsVersion", "", omit=True)
    size: int = wire("Size", 0)
    virtual_size: int = wire("VirtualSize", 0, omit=True)
    graph_driver: DriverData = wire("GraphDriver", DriverData())
    rootfs: ImageRootFS = wire("RootFS", ImageRootFS())
    metadata: ImageMetadata = wire("Metadata", ImageMetadata())
    manifests: tuple[ManifestSummary, ...] | None = wire("Manifests", None, omit=True)
    identity: Identity | None = wire("Identity", None, omit=True)


@dataclass(frozen=True, slots=True)
class ImageSummary:
    """An entry of GET /images/json."""

    id: str = wire("Id", "")
    parent_id: str = wire("ParentId", "")
    repo_tags: tuple[str, ...] = wire("RepoTags", ())
    repo_digests: tuple[str, ...] = wire("RepoDigests", ())
    created: int = wire("Created", 0)
    size: int = wire("Size", 0)
    virtual_size: int = wire("VirtualSize", 0, omit=True)
    shared_size: int = wire("SharedSize", 0)
    labels: Mapping[str, str] | None = wire("Labels", None)
    containers: int = wire("Containers", 0)
    descriptor: OCIDescriptor | None = wire("Descriptor", None, omit=True)
    manifests: tuple[ManifestSummary, ...] | None = wire("Manifests", None, omit=True)


@dataclass(frozen=True, slots=True)
class HistoryItem:
    """An entry of GET /images/{name}/history."""

    id: str = wire("Id", "")
    created: int = wire("Created", 0)
    created_by: str = wire("CreatedBy", "")
    tags: tuple[str, ...] | None = wire("Tags", None)
    size: int = wire("Size", 0)
    comment: str = wire("Comment", "")


@dataclass(frozen=True, slots=True)
class DeleteItem:
    """An entry of DELETE /images/{name}: one of the two."""

    untagged: str = wire("Untagged", "", omit=True)
    deleted: str = wire("Deleted", "", omit=True)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """An entry of GET /images/search."""

    star_count: int = wire("star_count", 0)
    is_official: bool = wire("is_official", False)
    name: str = wire("name", "")
    is_automated: bool = wire("is_automated", False)
    description: str = wire("description", "")


@dataclass(frozen=True, slots=True)
class DistributionInspect:
    """Answer of GET /distribution/{name}/json."""

    descriptor: OCIDescriptor = wire("Descriptor", OCIDescriptor())
    platforms: tuple[OCIPlatform, ...] = wire("Platforms", ())


@dataclass(frozen=True, slots=True)
class PruneImagesResponse:
    """Answer of POST /images/prune."""

    images_deleted: tuple[DeleteItem, ...] | None = wire("ImagesDeleted", None)
    space_reclaimed: int = wire("SpaceReclaimed", 0)


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """Credentials, as X-Registry-Auth and POST /auth carry them."""

    username: str = wire("username", "", omit=True)
    password: str = wire("password", "", omit=True)
    auth: str = wire("auth", "", omit=True)
    email: str = wire("email", "", omit=True)
    serveraddress: str = wire("serveraddress", "", omit=True)
    identitytoken: str = wire("identitytoken", "", omit=True)
    registrytoken: str = wire("registrytoken", "", omit=True)


@dataclass(frozen=True, slots=True)
class AuthResponse:
    """Answer of POST /auth."""

    identity_token: str = wire("IdentityToken", "", omit=True)
    status: str = wire("Status", "")
