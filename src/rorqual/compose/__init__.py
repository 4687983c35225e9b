"""Compose: projects of services, networks and volumes that a file describes, made and kept on one engine.

    files -> yamltext -> interpolate -> schema (one canonical form) -> loader (extends, include, several files)
          -> project (names, profiles, environment) -> observe + plan (what is there, what must change) -> execute

Names and labels are Docker Compose's, so that a project made by one is kept by the other. Source: the Compose
Specification (compose-spec.io).
"""
