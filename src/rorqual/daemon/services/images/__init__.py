"""Images: the library of names, pull, import, remove, and what list and inspect show."""
