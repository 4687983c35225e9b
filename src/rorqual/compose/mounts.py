"""A service's volumes, secrets and configs as the API takes them. Source: Compose Specification, "volumes"."""

from __future__ import annotations

from collections.abc import Mapping

from rorqual.compose.kinds import JSON
from rorqual.compose.project import Project
from rorqual.errdefs import InvalidArgument


def of(project: Project, service: JSON, kept: Mapping[str, str]) -> tuple[list[str], list[JSON]]:
    """(HostConfig.Binds, HostConfig.Mounts) of a service's volumes, secrets and configs.

    `kept`: volumes that were at a path before, by target. Raises: InvalidArgument.
    """
    binds: list[str] = []
    mounts: list[JSON] = []
    declared: set[str] = set()
    for volume in service.get("volumes") or ():
        declared.add(volume["target"])
        if volume["type"] == "bind" and _is_plain(volume):
            binds.append(_bind(volume))
        else:
            mounts.append(_mount(project, volume, kept))
    mounts += [
        {"Type": "volume", "Source": source, "Target": target}
        for target, source in kept.items()
        if target not in declared
    ]
    for kind, directory in (("secrets", "/run/secrets"), ("configs", "")):
        for entry in service.get(kind) or ():
            source = project.document[kind][entry["source"]]
            if source.get("external"):
                raise InvalidArgument(f"unsupported external {kind.removesuffix('s')} {entry['source']}")
            if "file" in source:
                target = file_target(entry, directory)
                options = {"CreateMountpoint": False}
                mounts.append(
                    {
                        "Type": "bind",
                        "Source": source["file"],
                        "Target": target,
                        "ReadOnly": True,
                        "BindOptions": options,
                    }
                )
    return binds, mounts


def _is_plain(volume: JSON) -> bool:
    """Whether it can be one of HostConfig.Binds, which make a missing directory on every version of the API."""
    return volume["bind"]["create_host_path"] and "recursive" not in volume["bind"] and ":" not in volume["source"]


def file_target(entry: JSON, directory: str) -> str:
    """Where a secret or config is in the container."""
    target = entry.get("target") or entry["source"]
    return target if target.startswith("/") else f"{directory}/{target}"


def _bind(volume: JSON) -> str:
    options = ["ro" if volume.get("read_only") else "rw"]
    options += [volume["bind"][key] for key in ("selinux", "propagation") if key in volume["bind"]]
    return f"{volume['source']}:{volume['target']}:{','.join(options)}"


_RECURSIVE = {"disabled": "NonRecursive", "writable": "ReadOnlyNonRecursive", "readonly": "ReadOnlyForceRecursive"}


def _mount(project: Project, volume: JSON, kept: Mapping[str, str]) -> JSON:
    kind = volume["type"]
    mount: JSON = {"Type": kind, "Target": volume["target"], "ReadOnly": bool(volume.get("read_only"))}
    if source := volume.get("source"):
        mount["Source"] = project.volumes[source]["name"] if kind == "volume" else source
    elif kind == "volume" and volume["target"] in kept:
        mount["Source"] = kept[volume["target"]]
    if "consistency" in volume:
        mount["Consistency"] = volume["consistency"]
    settings = volume.get(kind) or {}
    if kind == "bind":
        options: JSON = {"CreateMountpoint": settings.get("create_host_path", True)}
        if "propagation" in settings:
            options["Propagation"] = settings["propagation"]
        if settings.get("recursive") in _RECURSIVE:
            options[_RECURSIVE[settings["recursive"]]] = True
        mount["BindOptions"] = options
    elif kind == "volume":
        options = {"NoCopy": bool(settings.get("nocopy"))}
        options |= {"Labels": settings["labels"]} if settings.get("labels") else {}
        options |= {"Subpath": settings["subpath"]} if settings.get("subpath") else {}
        mount["VolumeOptions"] = options
    elif kind == "tmpfs":
        mount["TmpfsOptions"] = {"SizeBytes": int(settings.get("size", 0)), "Mode": settings.get("mode", 0)}
    elif kind == "image":
        mount["ImageOptions"] = {"Subpath": settings.get("subpath", "")}
    else:
        raise InvalidArgument(f"unsupported volume type {kind}")
    return mount
