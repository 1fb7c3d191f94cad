"""Loaded before anything reads the settings (`-p tests.early`): each process of the suite has data of its own.

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

# The suite is several processes, and what they start is started often: compiled once is enough.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ["VIBE_DATA"] = tempfile.mkdtemp(prefix="vibe-tests-")
atexit.register(shutil.rmtree, os.environ["VIBE_DATA"], ignore_errors=True)
os.environ["VIBE_REPO_ROOTS"] = tempfile.gettempdir()
os.environ["DJANGO_SETTINGS_MODULE"] = "vibe.settings"
# Nothing here speaks TLS, and each of hundreds of HTTP clients would load the certificates of all the world.
os.environ["SSL_CERT_DIR"] = os.environ["VIBE_DATA"]
os.environ.pop("SSL_CERT_FILE", None)
# Until all tests are collected nothing goes away that would be worth looking for (tests/conftest.py goes on).
gc.disable()
# As at a terminal, even if the suite was started in the background, where a shell has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
