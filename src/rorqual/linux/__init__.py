"""The kernel, one thin typed module a facility: names as the kernel has them, OSError with errno and path, no policy."""
