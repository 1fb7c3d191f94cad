"""A living supervisor, seen from the server, which is not its parent."""

import os
import select

from tasks.supervision import processes
from tasks.supervision.folder import RunFolder


class Watched:
    """`descriptor` becomes readable when the supervisor has ended; -1 where there is no such thing, and then its
    lock tells."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.descriptor = _pidfd(folder)

    def has_ended(self) -> bool:
        if self.descriptor >= 0:
            poll = select.poll()  # not select(): a server with many streams has descriptors above its 1024
            poll.register(self.descriptor, select.POLLIN)
            return bool(poll.poll(0))
        lock = self.folder.acquire()
        if lock is None:
            return False
        os.close(lock)
        return True

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1


def _pidfd(folder: RunFolder) -> int:
    state = folder.read(folder.state, "pid", "start_time")
    if state is None:
        return -1
    try:
        descriptor = os.pidfd_open(int(state["pid"]))
    except OSError:
        return -1
    if processes.is_alive(int(state["pid"]), int(state["start_time"])):
        return descriptor
    os.close(descriptor)
    return -1
