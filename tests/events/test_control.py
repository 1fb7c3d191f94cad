"""Asking a server that is in no state to answer."""

import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from events import control


@pytest.fixture
def server(settings, tmp_path: Path) -> Iterator[socket.socket]:
    settings.EVENTS_CONTROL = tmp_path
    with tempfile.TemporaryDirectory(prefix="events-") as folder, socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.join(folder, "socket"))
        one.listen()
        (tmp_path / "1").write_text(one.getsockname())
        yield one


@pytest.mark.parametrize("answer", [None, b"", b'{"pid":1,"streams":['])
def test_one_that_is_killed_while_it_is_asked_does_not_run(
    server: socket.socket, answer: bytes | None
) -> None:
    asking = threading.Event()

    def die() -> None:
        assert asking.wait(20)
        if answer is not None:
            with server.accept()[0] as asked:
                asked.sendall(answer)
        server.close()

    class Asking(socket.socket):
        def connect(self, address: object) -> None:
            super().connect(address)
            if self.type == socket.SOCK_STREAM:
                asking.set()

    dying = threading.Thread(target=die)
    dying.start()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(CommandError, match="No server is running"):
        patch.setattr(control.socket, "socket", Asking)
        call_command("streams")
    dying.join()


def test_one_that_hangs_is_told_of(server: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "PATIENCE_SECONDS", 0.1)
    with pytest.raises(CommandError, match="does not answer"):
        call_command("streams")


async def test_a_server_that_cannot_be_asked_says_so_itself(
    settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "servers").write_text("in the way")
    settings.EVENTS_CONTROL = tmp_path / "servers"
    one = control.Control()
    await one._open()
    one.stop()
    assert "`manage.py streams` will not see this server" in caplog.text
