"""Commands of `rorqual container`, a module each."""
