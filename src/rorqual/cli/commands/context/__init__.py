"""`rorqual context …`: named addresses of engines, in the store that Docker's own command line uses."""
