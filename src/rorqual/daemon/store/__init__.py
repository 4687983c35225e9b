"""What rorquald keeps on disk: SQLite in WAL mode, one writer thread a file."""
