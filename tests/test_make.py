"""What a newcomer types, on a data folder of their own."""

import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.live import LiveServer
from tests.zygote import ROOT


def test_the_printed_link_signs_in_once(live_server_process: LiveServer) -> None:
    server = live_server_process
    assert server.sign_in_link.startswith(server.url + "/")
    with httpx.Client(base_url=server.url, follow_redirects=True) as person:
        page = person.get(server.sign_in_link)
        assert page.status_code == 200
        if "sessionid" not in person.cookies:
            csrf = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
            assert csrf, "the link's page neither signs in nor asks for a click"
            page = person.post(server.sign_in_link, data={"csrfmiddlewaretoken": csrf[1]})
        assert page.status_code == 200
        assert person.get("/api/projects").status_code == 200
        assert [project["name"] for project in person.get("/api/projects").json()]
    with httpx.Client(base_url=server.url) as other:
        again = other.get(urlsplit(server.sign_in_link).path)
        assert "sessionid" not in other.cookies
        assert again.status_code < 500
        assert other.get("/api/projects").status_code == 401


def test_a_second_start_keeps_the_data_and_gives_a_fresh_link(tmp_path: Path) -> None:
    with LiveServer(tmp_path / "data", typed=True, new=True) as server:
        first = server.sign_in_link
        headers = {"Authorization": f"Bearer {server.token()}"}
        projects = httpx.get(f"{server.url}/api/projects", headers=headers).json()
        assert server.stop() == 0
        server.typed = False
        server.start()
        assert server.sign_in_link != first
        assert httpx.get(f"{server.url}/api/projects", headers=headers).json() == projects


def test_an_environment_that_was_half_made_is_made(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("requirements.txt", "constraints.txt"):
        (tmp_path / name).touch()
    half = "#!/bin/sh\nmkdir -p .venv/bin; touch .venv/bin/python; "
    for name, rest in (
        ("half", "exit 1"),
        ("whole", "printf '#!/bin/sh' > .venv/bin/pip; chmod +x .venv/bin/pip"),
    ):
        (tmp_path / name).write_text(half + rest)
        (tmp_path / name).chmod(0o700)
    codes = [
        subprocess.run(["make", ".venv/installed", f"PYTHON=./{name}"], cwd=tmp_path, timeout=60).returncode
        for name in ("half", "whole", "whole")
    ]
    assert codes == [2, 0, 0]


def test_the_token_command_names_the_users_there_are(live_server_process: LiveServer) -> None:
    assert live_server_process.token().startswith("vibe_")
    try:
        live_server_process.token("nobody")
    except AssertionError as error:
        assert "admin" in str(error)
    else:
        raise AssertionError("a token was printed for a user that does not exist")
