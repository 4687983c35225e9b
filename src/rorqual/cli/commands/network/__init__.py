"""Commands of `rorqual network`, a module each."""
