"""The commands of `rorqual-runc`, one module each: NAME's `OPTIONS` and `run(line, context)` giving the exit status."""
