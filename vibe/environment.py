"""Reads the settings that come from the environment and refuses bad ones loudly.

Each function returns the value of one variable, or its default where the variable is unset
or empty; a value that does not fit raises BadSetting with a message that quotes it.
"""

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

_HOST = re.compile(r"\*|\.?[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]", re.ASCII | re.IGNORECASE)
_MOST = 10.0**15  # Whatever is counted here, more is a slip of the finger; and infinity is no whole number.
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


class BadSetting(ImproperlyConfigured):
    """Its message is for the person who starts the program, and says all there is to say."""


def text(name: str, default: str) -> str:
    return os.environ.get(name, "").strip() or default


def flag(name: str, default: bool) -> bool:
    raw = text(name, "")
    if not raw:
        return default
    if raw.lower() in _TRUE:
        return True
    if raw.lower() in _FALSE:
        return False
    raise BadSetting(f"{name}={raw!r} is neither yes nor no: use 1 or 0.")


def number(name: str, default: float, *, least: float, most: float = _MOST) -> float:
    raw = text(name, "")
    if not raw:
        return default
    try:
        value = float(raw)
    except ValueError:
        raise BadSetting(f"{name}={raw!r} is not a number.") from None
    if not least <= value <= most:
        raise BadSetting(f"{name}={raw!r} is out of range: {least:.15g} to {most:.15g}.")
    return value


def integer(name: str, default: int, *, least: int, most: float = _MOST) -> int:
    value = number(name, default, least=least, most=most)
    if value != int(value):
        raise BadSetting(f"{name}={text(name, '')!r} is not a whole number.")
    return int(value)


def hosts(name: str, default: list[str]) -> list[str]:
    """Names of hosts, separated by commas: no scheme, no port."""
    raw = text(name, "")
    found = [word.strip() for word in raw.split(",") if word.strip()]
    for host in found:
        if not _HOST.fullmatch(host):
            raise BadSetting(f"{name}={raw!r}: {host!r} is not the name of a host, like board.example.com.")
    return found or default


def origin(name: str) -> str:
    """The address of a site, without a path; empty where none is given."""
    raw = text(name, "").rstrip("/")
    if raw and not re.fullmatch(r"https?://[^/?#@\s]+", raw):
        raise BadSetting(f"{name}={raw!r} is not the address of a site, like https://board.example.com.")
    return raw


def folders(name: str) -> list[Path]:
    """Folders separated like PATH; each must exist and be absolute. Without any, the home folder, if there is one."""
    raw = text(name, "")
    found = []
    for part in filter(None, raw.split(os.pathsep)):
        folder = _expanded(part)
        if not folder.is_absolute() or not os.path.isdir(folder):
            raise BadSetting(f"{name}={raw!r}: {part!r} is not an existing, absolute folder.")
        found.append(folder.resolve())
    home = Path(os.path.expanduser("~"))
    return found if raw else [home] if home.is_absolute() else []


def _expanded(name: str) -> Path:
    """Unlike Path.expanduser it leaves as it is what stands for no home folder."""
    return Path(os.path.expanduser(name))


def data_folder(name: str, default: Path) -> Path:
    """The folder for the database, logs and worktrees; made if it is missing, private to its owner."""
    folder = _expanded(text(name, str(default)))
    if str(folder).startswith("~"):
        raise BadSetting(f"{name}={str(folder)!r} is in the home folder of nobody.")
    folder = folder.absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BadSetting(f"{name}={str(folder)!r} cannot be made: {error.strerror}.") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise BadSetting(f"{name}={str(folder)!r} cannot be written to.")
    return folder


def secret_key(data: Path) -> str:
    """SECRET_KEY, or one made once and kept in the data folder, readable by its owner only."""
    given = text("SECRET_KEY", "")
    if given:
        if len(given) < 32:
            raise BadSetting(f"SECRET_KEY={given!r} has {len(given)} characters: use 50 or more random ones.")
        return given
    path = data / "secret_key"
    try:
        return _kept(path) or _kept(_made(path))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise BadSetting(f"VIBE_DATA={str(data)!r}: {path} cannot be read or made: {why}.") from None


def _kept(key: Path) -> str:
    try:
        return key.read_text().strip()
    except FileNotFoundError:
        return ""


def _made(key: Path) -> Path:
    """The key appears whole or not at all, and of several who make it at once all read that of the first."""
    new = key.with_name(f"{key.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(64))
    try:
        os.link(new, key)
    except OSError:  # There is one already; or the disk knows no links.
        if not _kept(key):
            new.replace(key)
    finally:
        new.unlink(missing_ok=True)
    return key


def database(name: str, default: Path) -> dict[str, object]:
    raw = text(name, "")
    if not raw:  # not by way of an address, where # and ? and % mean something
        _keep_private(default)
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(default)}
    try:
        config: dict[str, object] = environ.Env.db_url_config(raw)
    except Exception as error:  # django-environ raises several unrelated types for one bad URL
        raise BadSetting(f"{name}={raw!r} is not a database URL: {error}") from error
    engine = str(config.get("ENGINE", ""))
    named = config.get("NAME") or config.get("OPTIONS")  # ?service=… names it too
    if not engine.endswith(("sqlite3", "postgresql")) or not named:
        raise BadSetting(f"{name}={raw!r}: use sqlite:///PATH or postgres://USER:PASSWORD@HOST/NAME.")
    if config.get("NAME") == ":memory:":
        raise BadSetting(f"{name}={raw!r} is a database that each thread has for itself: use sqlite:///PATH.")
    return config


def _keep_private(file: Path) -> None:
    """Sessions are in it, and a folder that was there before may be open to all. SQLite's other files get its mode."""
    with suppress(OSError):  # it is another account's: what is wrong with it shows when it is opened
        if not file.exists():
            file.touch(0o600)
        file.chmod(file.stat().st_mode & 0o700)


def one_of(name: str, default: str, allowed: list[str]) -> str:
    raw = text(name, default)
    for one in allowed:
        if raw.lower() == one.lower():
            return one
    raise BadSetting(f"{name}={raw!r} is not known here: use {' or '.join(allowed)}.")
