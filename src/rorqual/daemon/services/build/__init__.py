"""Builds: a context and a Dockerfile become an image, step by step, on the engine's own containers and layers."""
