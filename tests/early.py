"""Loaded before anything reads the settings (`-p tests.early`): each process of the suite has data of its own,
all of it in one folder that is gone at the end.

Not in conftest.py, which is too late: a worker inherits the environment of the process that started it, and
pytest-django reads the settings from that before any conftest is loaded.
"""

import atexit
import gc
import os
import shutil
import signal
import sys
import tempfile

from tests.scale import SOAK


def place() -> str | None:
    """Memory, where there is plenty: for many small files a disk costs more than the programs that write them."""
    memory = "/dev/shm"
    if SOAK or not os.access(memory, os.W_OK):
        return None
    found = os.statvfs(memory)
    usable = found.f_bavail * found.f_frsize > 4 * 1024**3 and not found.f_flag & os.ST_NOEXEC
    return memory if usable else None


def remove(owner: int) -> None:
    if os.getpid() == owner:  # a fork has nothing to remove
        shutil.rmtree(os.environ["VIBE_TESTS"], ignore_errors=True)


def have_own_data() -> None:
    """In a fork: data of its own, and the settings that go with it."""
    from tests.zygote import forget_settings

    os.environ["VIBE_DATA"] = tempfile.mkdtemp(prefix="vibe-data-")
    forget_settings(os.environ["DJANGO_SETTINGS_MODULE"])


# The suite is several processes, and what they start is started often: compiled once is enough.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if "VIBE_TESTS" not in os.environ:  # else started by another process of the suite, which has made it
    os.environ["VIBE_TESTS"] = tempfile.mkdtemp(prefix="vibe-tests-", dir=place())
    os.environ["VIBE_TESTS_PID"] = str(os.getpid())  # with which tests/zygote.py ends
    os.chmod(os.environ["VIBE_TESTS"], 0o711)  # a PostgreSQL cluster in it belongs to another account
    atexit.register(remove, os.getpid())
os.environ["TMPDIR"] = tempfile.tempdir = os.environ["VIBE_TESTS"]
os.environ["VIBE_DATA"] = tempfile.mkdtemp(prefix="vibe-data-")
os.environ["VIBE_REPO_ROOTS"] = tempfile.gettempdir()
os.environ["DJANGO_SETTINGS_MODULE"] = "vibe.settings"
# Nothing here speaks TLS, and each of hundreds of HTTP clients would load the certificates of all the world.
os.environ["SSL_CERT_DIR"] = os.environ["VIBE_DATA"]
os.environ.pop("SSL_CERT_FILE", None)
# Until all tests are collected nothing goes away that would be worth looking for (tests/conftest.py goes on).
gc.disable()
# As at a terminal, even if the suite was started in the background, where a shell has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
