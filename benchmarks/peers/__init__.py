"""The same room, as its peers would make it."""
