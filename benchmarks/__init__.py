"""What the engine costs, beside its peers, on this machine, in one run: `make bench`."""
