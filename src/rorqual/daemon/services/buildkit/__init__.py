"""BuildKit's clients (buildx, `docker build`): their sessions and calls, on the engine's own builder."""
