"""What a JavaScript module imports, so that a page can ask for all of it at once instead of file by file."""

import posixpath
import re
from functools import cache
from pathlib import Path

from django.contrib.staticfiles import finders

_IMPORT = re.compile(r"""^(?:import|export)\b[^;]*?["'](\.[^"']+)["'];""", re.MULTILINE)


@cache
def imports_of(module: str) -> tuple[str, ...]:
    """The static paths of all modules that this one needs, itself left out, in the order of their discovery."""
    found: dict[str, None] = {}
    waiting = [module]
    while waiting:
        path = waiting.pop(0)
        for name in _direct(path):
            if name not in found and name != module:
                found[name] = None
                waiting.append(name)
    return tuple(found)


def _direct(path: str) -> list[str]:
    file = finders.find(path)
    if not file:
        return []
    folder = posixpath.dirname(path)
    return [
        posixpath.normpath(posixpath.join(folder, name)) for name in _IMPORT.findall(Path(file).read_text())
    ]
