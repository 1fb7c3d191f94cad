"""Files that processes lock (flock): such a lock ends with the process that holds it, however that ends."""

import fcntl
import os
from pathlib import Path


def is_held(path: Path) -> bool:
    """Whether a process has this file for itself right now. One that is not there, nobody has."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
