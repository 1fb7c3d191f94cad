"""Static files, served before Django.

WhiteNoise's middleware is synchronous: in the chain it would cost every request two turns in a thread, streams
included. Here its file index answers on the event loop: the files are known since the start, they are small, and
the system holds them in memory. They are taken from the apps as they are, so nothing has to be collected.
"""

from collections.abc import Awaitable, Callable
from typing import Any, BinaryIO

from django.conf import settings
from django.contrib.staticfiles import finders
from whitenoise.base import WhiteNoise
from whitenoise.responders import StaticFile

_CHUNK = 256 * 1024


class StaticFiles:
    """Answers GET and HEAD below STATIC_URL; everything else goes on to the application."""

    def __init__(self, application: Callable[..., Awaitable[None]]) -> None:
        self._application = application
        self._prefix = "/" + settings.STATIC_URL.strip("/") + "/"
        # Browsers ask each time whether a file has changed, and mostly hear that it has not: names carry no hash,
        # and a page with yesterday's script is worse than a question.
        self._index = WhiteNoise(None, max_age=0, allow_all_origins=False)
        self._search()

    def _search(self) -> None:
        for finder in finders.get_finders():
            for path, storage in finder.list(None):
                url = self._prefix + path
                # The first finder wins, as in Django.
                if url not in self._index.files:
                    self._index.add_file_to_dictionary(url, storage.path(path))

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(self._prefix):
            return await self._application(scope, receive, send)
        found = self._find(scope["path"])
        if found is None or scope["method"] not in ("GET", "HEAD"):
            return await self._application(scope, receive, send)
        return await _send(found, scope, send)

    def _find(self, path: str) -> StaticFile | None:
        if settings.DEBUG:  # New and changed files show at once.
            where = finders.find(path.removeprefix(self._prefix))
            if not where:
                return None
            self._index.add_file_to_dictionary(path, where)
        file: StaticFile | None = self._index.files.get(path)
        return file


async def _send(file: StaticFile, scope: dict[str, Any], send: Any) -> None:
    environ = {
        f"HTTP_{k.decode('latin1').upper().replace('-', '_')}": v.decode("latin1")
        for k, v in scope["headers"]
    }
    answer = file.get_response(scope["method"], environ)
    headers = [(name.encode("latin1"), value.encode("latin1")) for name, value in answer.headers]
    headers.append((b"X-Content-Type-Options", b"nosniff"))
    await send({"type": "http.response.start", "status": answer.status.value, "headers": headers})
    if answer.file is not None:
        with answer.file:
            await _send_file(answer.file, send)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_file(file: BinaryIO, send: Any) -> None:
    while chunk := file.read(_CHUNK):
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
