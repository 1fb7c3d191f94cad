"""Marks for tests that need a program of the system: run where it is found, skipped with the reason where not."""

import glob
import shutil

import pytest

CHROMIUM = shutil.which("chromium")
"""The whole browser, with windows and notifications."""
CHROMIUM_PAGES = shutil.which("chromium-headless-shell") or CHROMIUM
"""The same engine with nothing around its pages, where it is installed: half the processor time a test."""
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
CADDY = shutil.which("caddy")
POSTGRES_BIN = next(iter(sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)), None)

needs_chromium = pytest.mark.skipif(not CHROMIUM_PAGES, reason="chromium is not installed")
needs_whole_chromium = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")
needs_nginx = pytest.mark.skipif(not NGINX, reason="nginx is not installed")
needs_caddy = pytest.mark.skipif(not CADDY, reason="caddy is not installed")
needs_postgres = pytest.mark.skipif(not POSTGRES_BIN, reason="PostgreSQL is not installed")
