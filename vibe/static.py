"""Static files, served before Django.

WhiteNoise's middleware is synchronous: in the chain it would cost every request two turns in a thread, streams
included. Here its file index answers on the event loop: the files are known since the start, they are small, and
the system holds them in memory. They are taken from the apps as they are, so nothing has to be collected.

The addresses that pages use hold a version, the hash of all files, so browsers keep what they have without asking: a
page is some fifty files. It stands before the path, where modules that import each other by relative paths keep it.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import StaticFilesStorage
from whitenoise.base import WhiteNoise
from whitenoise.responders import StaticFile

_CHUNK = 256 * 1024
_VERSION = re.compile(r"v-[0-9a-f]{12}/")


class VersionedStorage(StaticFilesStorage):
    """Where `{% static %}` gets its addresses: with the version, except while files may change under it (DEBUG)."""

    def url(self, name: str | None) -> str:
        return super().url(name if settings.DEBUG else f"{version()}/{name}")


@cache
def version() -> str:
    digest = hashlib.sha256()
    for path, file in sorted(_files().items()):
        digest.update(path.encode() + b"\0" + Path(file).read_bytes())
    return f"v-{digest.hexdigest()[:12]}"


def _files() -> dict[str, str]:
    """Where each file lies, by its path below STATIC_URL; the first finder wins, as in Django."""
    found: dict[str, str] = {}
    for finder in finders.get_finders():
        for path, storage in finder.list(None):
            if path not in found:
                found[path] = storage.path(path)
    return found


class StaticFiles:
    """Answers GET and HEAD below STATIC_URL; everything else goes on to the application."""

    def __init__(self, application: Callable[..., Awaitable[None]]) -> None:
        self._application = application
        self._prefix = "/" + settings.STATIC_URL.strip("/") + "/"
        self._places = _files()
        self._stamps: dict[str, tuple[int, int]] = {}
        # Without the version, or with one of yesterday, browsers ask each time whether a file has changed: a page with
        # yesterday's script is worse than a question.
        self._kept = f"{self._prefix}{version()}/"
        self._index = WhiteNoise(
            None,
            max_age=0,
            allow_all_origins=False,
            immutable_file_test=lambda path, url: url.startswith(self._kept),
        )

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(self._prefix):
            return await self._application(scope, receive, send)
        found = self._find(scope["path"])
        if found is None or scope["method"] not in ("GET", "HEAD"):
            return await self._application(scope, receive, send)
        return await _send(found, scope, send)

    def _find(self, address: str) -> StaticFile | None:
        path = _VERSION.sub("", address.removeprefix(self._prefix), 1)
        address = (self._kept if address.startswith(self._kept) else self._prefix) + path
        # While files may change, new ones show at once.
        place = (_files() if settings.DEBUG else self._places).get(path)
        # Whoever pulls under a running server deletes files, too.
        if not place or not Path(place).is_file():
            return None
        # Whoever pulls under a running server changes files: with the old length, a browser waits for the rest.
        stamp = _stamp(place)
        if self._stamps.get(address) != stamp:
            self._stamps[address] = stamp
            self._index.add_file_to_dictionary(address, place)
        file: StaticFile = self._index.files[address]
        return file


def _stamp(file: str) -> tuple[int, int]:
    found = Path(file).stat()
    return found.st_mtime_ns, found.st_size


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
