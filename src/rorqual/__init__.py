"""Rorqual: a container platform. Importing this package does nothing."""
