"""A run, from the queue to its record. `runner` is what the rest of the board calls."""
