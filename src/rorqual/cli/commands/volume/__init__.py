"""Commands of `rorqual volume`, a module each."""
