"""What decisions chose among, measured: the chosen way beside the others, in turn. `make choices`."""
