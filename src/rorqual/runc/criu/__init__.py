"""Checkpoint and restore, through CRIU: its program is started as a worker (`criu swrk`) and asked over a socket.

What it is asked is written by some 60 lines of our own: the commands that enter containers run without site-packages.
"""
