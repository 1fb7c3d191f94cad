"""Marks for tests that need a program of the system: run where it is found, skipped with the reason where not."""

import glob
import shutil

import pytest

CHROMIUM = shutil.which("chromium")
REDIS = shutil.which("redis-server")
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
CADDY = shutil.which("caddy")
POSTGRES_BIN = next(iter(sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)), None)

needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")
needs_redis = pytest.mark.skipif(not REDIS, reason="redis-server is not installed")
needs_nginx = pytest.mark.skipif(not NGINX, reason="nginx is not installed")
needs_caddy = pytest.mark.skipif(not CADDY, reason="caddy is not installed")
needs_postgres = pytest.mark.skipif(not POSTGRES_BIN, reason="PostgreSQL is not installed")
