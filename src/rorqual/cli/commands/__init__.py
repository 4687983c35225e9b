"""One module a command, <group>/<verb>.py, each defining COMMAND; rorqual.cli.registry names them."""
