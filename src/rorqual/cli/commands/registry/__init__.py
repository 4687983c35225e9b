"""Commands of `rorqual registry`, a module each."""
