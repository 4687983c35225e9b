"""Containers: records and states, create, start, exit, stop, remove, views, logs, attach, execs."""
