"""The kernel, one thin typed module a facility: its names kept, OSError with errno and path, no policy."""
