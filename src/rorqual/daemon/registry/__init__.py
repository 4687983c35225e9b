"""`rorqual registry serve`: the registry of distribution.serve over rorqual-containerd's content store.

A process of its own: python -m rorqual.daemon.registry. Nothing is kept but in containerd, in a namespace of its own.
"""
