"""Compose projects of tests, made of a service's attributes."""

from typing import Any

from rorqual.compose import project, schema
from rorqual.compose.project import Project

IMAGE = {"image": "x"}


def make(services: dict[str, Any], *profiles: str, directory: str = "/p", **more: Any) -> Project:
    """`more`: other top-level elements; `wanted` and `environment` are project.make's."""
    wanted = more.pop("wanted", ())
    environment = more.pop("environment", {})
    return project.make(
        schema.PROJECT.canon({"services": services, **more}, "", directory),
        name="it",
        directory=directory,
        files=["/p/f"],
        environment=environment,
        profiles=profiles,
        wanted=wanted,
    )
