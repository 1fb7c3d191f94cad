"""What the supervisor of a run is made of: standard library only, no Django.

The supervisor starts in a few milliseconds and stays small because nothing in here imports
more than it must; the server uses what it needs of it, too.
"""
