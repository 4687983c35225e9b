"""Builds: the Dockerfile language and what a step copies. Nothing here knows the engine that runs it."""
