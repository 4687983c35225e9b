"""Tasks: shims started through the spawner, called over ttrpc, watched, found again after a restart."""
