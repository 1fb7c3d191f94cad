"""The log of a run: as pages, as a stream, searched, and as a conversation."""
