"""Commands of `rorqual system`, a module each."""
