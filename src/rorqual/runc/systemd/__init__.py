"""Control groups that systemd makes: each container a transient unit, asked for over D-Bus (`--systemd-cgroup`).

D-Bus is spoken here, by some 200 lines that know the few types the manager takes: commands that enter containers run
without site-packages, so that a library could not be imported there, and nobody else needs one.
"""
