"""How an attempt ends: merge, rebase, discard. `finish` is what the rest of the board calls."""
