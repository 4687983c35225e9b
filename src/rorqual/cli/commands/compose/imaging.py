"""Getting a project's images: pulled or built as its services say."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from rorqual import errdefs
from rorqual.cli import buildcontext, units
from rorqual.cli.command import Context
from rorqual.cli.commands.compose import loading
from rorqual.cli.config import encode_auth
from rorqual.cli.errors import CommandError, Exit
from rorqual.cli.progress import ProgressError, display
from rorqual.cli.references import parse
from rorqual.compose import labels, resources
from rorqual.compose.kinds import duration_ns
from rorqual.compose.project import Project, order
from rorqual.version import __version__

JSON = dict[str, Any]
_AGES_S = {"daily": 86_400.0, "weekly": 7 * 86_400.0}
PULLS = ("always", "missing", "never", "build", "policy")


def ensure(
    context: Context,
    of: Project,
    *,
    pull: str = "policy",
    build: bool = False,
    no_build: bool = False,
    quiet_pull: bool = False,
    quiet_build: bool = False,
) -> None:
    """Every service's image is there after it. Raises: CommandError, ResponseError, Exit of a build that failed."""
    if pull not in PULLS:
        raise CommandError(f'invalid --pull option "{pull}"')
    to_pull: dict[str, str] = {}
    to_build: list[str] = []
    for name in order(of.services):
        service = of.services[name]
        if service.get("provider"):
            raise CommandError(f'service "{name}" has a provider, which is not supported')
        policy = service.get("pull_policy", "") if pull == "policy" else pull
        image = of.image(name)
        if service.get("build") and policy not in ("always", "missing", "if_not_present"):
            if (build or policy == "build" or not _is_here(context, image)) and not no_build:
                to_build.append(name)
            continue
        if policy == "never":
            continue
        if policy == "always" or _is_stale(context, image, policy, service):
            to_pull.setdefault(image, name)
        if service.get("build") and build and not no_build:
            to_build.append(name)
    if to_pull:
        pull_all(context, of, to_pull, quiet=quiet_pull, buildable=to_build)
    for name in to_build:
        build_one(context, of, name, quiet=quiet_build)


def _is_here(context: Context, image: str) -> bool:
    try:
        context.client.images.inspect(image)
    except errdefs.NotFound:
        return False
    return True


def _is_stale(context: Context, image: str, policy: str, service: JSON) -> bool:
    try:
        found = context.client.images.inspect(image)
    except errdefs.NotFound:
        return True
    age_s = _AGES_S.get(policy)
    if policy.startswith("every_"):
        age_s = _age(policy.removeprefix("every_"))
    elif policy == "refresh":
        age_s = _age(service.get("pull_refresh_after", "24h"))
    if age_s is None:
        return False
    tagged = (found.get("Metadata") or {}).get("LastTagTime") or ""
    return not tagged or time.time() - units.parse_rfc3339(tagged) > age_s


def _age(text: str) -> float:
    match = re.fullmatch(r"(?:(\d+)w)?(?:(\d+)d)?(.*)", text)
    assert match is not None
    try:
        rest = duration_ns(match[3]) / 1e9 if match[3] else 0.0
    except ValueError:
        raise CommandError(f"invalid pull_policy: every_{text}") from None
    return int(match[1] or 0) * 7 * 86_400.0 + int(match[2] or 0) * 86_400.0 + rest


def pull_all(
    context: Context,
    of: Project,
    images: dict[str, str],
    *,
    quiet: bool = False,
    ignore_failures: bool = False,
    buildable: Sequence[str] = (),
) -> None:
    """Pulls images (image -> one service that has it). Raises: the first failure, once all are done."""
    failed: list[errdefs.Error] = []
    with loading.progress(context, "Pulling", quiet=quiet) as shown:
        for image, name in images.items():
            shown("Image", image, "Pulling")
            try:
                _pull(context, image, of.services[name].get("platform", ""))
            except errdefs.Error as e:
                shown("Image", image, "Error")
                if of.services[name].get("build") and name not in buildable:
                    build = f"{context.path.rpartition(' ')[0]} build {name}"
                    context.err(f"WARN[0000] Some service image(s) must be built from source by running:\n    {build}")
                elif not ignore_failures:
                    failed.append(e)
            else:
                shown("Image", image, "Pulled")
    if failed:
        raise failed[0]


def _pull(context: Context, image: str, platform: str) -> None:
    ref = parse(image).with_default_tag()
    tag = str(ref.digest) if ref.digest else ref.tag or ""
    auth = context.config.auth_header(ref.domain)
    _silently(context.client.images.pull(ref.familiar_name, tag, platform=platform, auth=auth))


def _silently(messages: Iterable[JSON]) -> None:
    with open(os.devnull, "w", encoding="ascii") as sink:
        display(messages, sink)


def push(context: Context, image: str) -> None:
    """Raises: ProgressError, ResponseError."""
    ref = parse(image).with_default_tag()
    _silently(context.client.images.push(ref.familiar_name, ref.tag or "", auth=context.config.auth_header(ref.domain)))


def build_one(
    context: Context,
    of: Project,
    name: str,
    *,
    quiet: bool = False,
    no_cache: bool = False,
    pull: bool = False,
    memory: int = 0,
    arguments: Sequence[str] = (),
) -> str:
    """Builds a service's image with the classic builder; its ID. Raises: Exit, CommandError."""
    service = of.services[name]
    build: JSON = service["build"]
    for key in ("ssh", "secrets", "additional_contexts", "entitlements", "cache_to", "privileged", "no_cache_filter"):
        if build.get(key):
            raise CommandError(f'service "{name}": build.{key} needs BuildKit, which this engine does not have')
    tags = [of.image(name), *(build.get("tags") or ())]
    args = dict(build.get("args") or {})
    for entry in arguments:
        key, equals, value = entry.partition("=")
        args[key] = value if equals else of.environment.get(key)
    given = {key for key, value in args.items() if value is not None}
    for entry in context.config.proxy_environment(context.client.host, given):
        key, _, value = entry.partition("=")
        args[key] = value
    documents: JSON = {
        "buildargs": args, "cachefrom": build.get("cache_from"),
        "labels": {**(build.get("labels") or {}), **_labels(of, name)},
        "ulimits": resources.ulimits(build.get("ulimits") or {}),
    }  # fmt: skip
    query: JSON = {key: json.dumps(value) for key, value in documents.items() if value}
    query |= {
        "t": tags,
        "target": build.get("target"),
        "networkmode": build.get("network"),
        "extrahosts": [host.replace("=", ":", 1) for host in build.get("extra_hosts") or ()] or None,
        "shmsize": int(build["shm_size"]) if "shm_size" in build else None,
        "platform": service.get("platform") or next(iter(build.get("platforms") or ()), None),
        "nocache": (no_cache or build.get("no_cache", False)) or None,
        "pull": (pull or build.get("pull", False)) or None,
        "memory": memory or None,
        "rm": True,
    }
    out: TextIO = io.StringIO() if quiet else sys.stderr
    found: list[str] = []
    source = _source(build)
    try:
        query |= {"dockerfile": source.dockerfile, "remote": source.remote or None}
        credentials = context.config.all_credentials()
        auths = encode_auth(credentials) if credentials else ""
        messages = context.client.images.build(query, source.pieces, auths)
        display(messages, out, on_aux=lambda aux: found.append(aux.get("ID", "")))
    except ProgressError as e:
        if isinstance(out, io.StringIO):
            sys.stderr.write(out.getvalue())
        raise Exit(e.code or 1, f"failed to build {name}: {e}") from e
    finally:
        source.close()
    return next(filter(None, reversed(found)), "")


def _labels(of: Project, name: str) -> JSON:
    """By which images that a project made are found again, to be pruned."""
    return {labels.PROJECT: of.name, labels.SERVICE: name, labels.VERSION: __version__}


def _source(build: JSON) -> buildcontext.Context:
    if "dockerfile_inline" not in build:
        return buildcontext.of(build["context"], _within(build["context"], build["dockerfile"]))
    import tempfile

    with tempfile.TemporaryDirectory(prefix="compose-") as directory:
        path = os.path.join(directory, "Dockerfile")
        with open(path, "w", encoding="utf-8") as file:
            file.write(build["dockerfile_inline"])
        return buildcontext.of(build["context"], path)


def _within(base: str, dockerfile: str) -> str:
    """The Dockerfile's path, which is relative to the context's directory."""
    if "://" in base or os.path.isabs(dockerfile) or not os.path.isdir(base):
        return dockerfile
    return os.path.join(base, dockerfile)
