"""Commands of `rorqual image`, a module each."""
