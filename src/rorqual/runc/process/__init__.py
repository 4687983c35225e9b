"""The processes of a container: parent.py in the caller, child.py in init and execs until they become the user's."""
