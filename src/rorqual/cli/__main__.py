"""`python -m rorqual.cli` is `rorqual`."""

from rorqual.cli.main import entry

if __name__ == "__main__":
    entry()
