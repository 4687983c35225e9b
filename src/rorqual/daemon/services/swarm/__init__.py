"""The engine in a swarm: what rorqual.swarm needs of the engine, and what the API asks of it."""
