"""Commands of `rorqual node`, a module each."""
