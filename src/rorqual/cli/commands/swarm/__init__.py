"""Commands of `rorqual swarm`, a module each."""
