"""Runs one child and outlives the server: `python -I -S tasks/supervisor.py RUN_FOLDER`.

Returns as soon as the child runs; docs/runs.md says what happens then. It imports no Django and
nothing that is not in the standard library, and of that little, so it starts soon and stays small.
"""

import os
import sys

if __name__ == "__main__":
    # Isolated mode (-I) leaves the project's folder out of the path.
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    from tasks.supervision.main import supervise

    sys.exit(supervise(sys.argv[1]))
