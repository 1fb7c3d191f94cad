"""What the board refuses to do, in words for the person who asked."""

from collections.abc import Sequence


class Refused(Exception):
    """A request that cannot be done. `status` is the HTTP status that says so; `files` the ones in conflict."""

    def __init__(self, message: str, status: int = 409, files: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.files = tuple(files)
