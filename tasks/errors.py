"""What the board refuses to do, in words for the person who asked."""

from collections.abc import Sequence


class Refused(Exception):
    """A request that cannot be done. `status` is the HTTP status that says so; `files` the ones in conflict;
    `field` the one of a form beside which it is said."""

    def __init__(
        self, message: str, status: int = 409, files: Sequence[str] = (), field: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.files = tuple(files)
        self.field = field
