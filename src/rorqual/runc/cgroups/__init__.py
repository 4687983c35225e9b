"""Control groups: one file a controller decides what is written (pure), v1.py and v2.py write it."""
