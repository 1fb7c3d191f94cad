"""The whole project as `make run` serves it: who may read, for how long, and what a restart loses (nothing)."""

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import httpx
import pytest

from tests.live import LiveServer
from tests.servers.clients import Stream, last_id, messages, opened
from vibe.static import StaticFiles

HEARTBEAT = 2
NEW_USER = "from django.contrib.auth.models import User; User.objects.create_user('{name}', is_staff={staff})"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer(tmp_path_factory.mktemp("live"), {"EVENTS_HEARTBEAT_SECONDS": str(HEARTBEAT)}) as running:
        yield running


@pytest.fixture(scope="module")
def token(server: LiveServer) -> str:
    return server.token()


def shell(server: LiveServer, code: str) -> None:
    server.manage("shell", "-v", "0", "-c", code)


def changes(server: LiveServer, token: str, **headers: str) -> AbstractContextManager[Stream]:
    return opened(server.port, "/api/events/", headers={"Authorization": f"Bearer {token}", **headers})


def ends_in_time(stream: Stream, do: Callable[[], object]) -> None:
    do()
    # At the next heartbeat, instead of it. One may be under way.
    assert stream.beats_until_end() <= 1


def test_a_stranger_gets_401_and_no_redirect(server):
    for path in ("/api/events/", "/api/events/streams", "/metrics"):
        answer = httpx.get(server.url + path)
        assert (answer.status_code, answer.headers["content-type"]) == (401, "application/json")
        assert answer.json()["detail"]
    wrong = httpx.get(server.url + "/api/events/", headers={"Authorization": "Bearer wrong"})
    assert wrong.status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/api/events/processes/no-uuid/logs",
        "/api/events/processes/00000000-0000-4000-8000-000000000000/logs",
        "/api/events/task-attempts/00000000-0000-4000-8000-000000000000/diff",
        "/api/events/?project_id=00000000-0000-4000-8000-000000000000",
        "/api/events/?project_id=nonsense",
    ],
)
def test_what_is_not_there_is_404(server, token, path):
    answer = httpx.get(server.url + path, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 404
    assert answer.json()["detail"]


RECORDS = """
from django.contrib.auth.models import User
from tasks.models import ExecutionProcess, Project, Task, TaskAttempt
User.objects.create_user("outsider")
task = Task.objects.create(project=Project.objects.get(), title="theirs")
attempt = TaskAttempt.objects.create(task=task, executor="demo", branch="b", target_branch="main")
run = ExecutionProcess.objects.create(task_attempt=attempt, run_reason="codingagent", status="completed")
print(f"?project_id={task.project_id} task-attempts/{attempt.pk}/diff processes/{run.pk}/logs")
"""


def test_what_lies_in_the_projects_of_others_is_404(server, token):
    addresses = server.manage("shell", "-v", "0", "-c", RECORDS).split()
    outsider = server.token("outsider")
    assert len(addresses) == 3
    for address in addresses:
        path = f"/api/events/{address}"
        answer = httpx.get(server.url + path, headers={"Authorization": f"Bearer {outsider}"})
        assert answer.status_code == 404, address
        head = httpx.head(server.url + path, headers={"Authorization": f"Bearer {token}"})
        assert head.status_code == 200, address


def test_a_stream_passes_all_that_a_page_passes(server, token):
    with changes(server, token) as stream:
        stream.until(b"\n\n")
        sent = stream.headers
    assert "default-src 'self'" in sent["content-security-policy"]
    assert (sent["x-content-type-options"], sent["x-frame-options"]) == ("nosniff", "DENY")
    assert sent["cache-control"] == "no-cache, no-transform"
    named = {"Authorization": f"Bearer {token}"}
    head = httpx.head(server.url + "/api/events/", headers=named)
    assert (head.status_code, head.headers["x-frame-options"]) == (200, "DENY")
    elsewhere = httpx.get(server.url + "/api/events/", headers={**named, "Host": "elsewhere.example"})
    assert elsewhere.status_code == 400


@pytest.mark.parametrize("chunked", [False, True])
def test_what_a_stranger_sends_is_not_kept_beyond_a_measure(server, chunked):
    part = b"x" * 1024**2
    answer = httpx.post(server.url + "/sign-in/", content=iter([part] * 11) if chunked else part * 11)
    assert answer.status_code == 413
    assert httpx.post(server.url + "/sign-in/", content=part * 9).status_code == 403


def test_a_wish_for_a_websocket_is_ignored_and_so_is_a_place_of_the_site(server):
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Daphne-Root-Path": "/elsewhere"}
    answer = httpx.get(server.url + "/", headers=headers)
    assert (answer.status_code, answer.headers["location"]) == (302, "/sign-in/?next=/")


def test_signing_out_ends_the_streams_of_that_session(server):
    with httpx.Client(base_url=server.url, follow_redirects=True) as person:
        page = person.get(server.sign_in_link)
        csrf = re.search(r'csrfmiddlewaretoken" value="([^"]+)', page.text) or re.search(
            r'data-csrf="([^"]+)', page.text
        )
        assert csrf, page.text
        cookies = "; ".join(f"{name}={value}" for name, value in person.cookies.items())
        with opened(server.port, "/api/events/", headers={"Cookie": cookies}) as stream:
            stream.until(b'"path":""')
            ends_in_time(
                stream,
                lambda: person.post("/sign-out/", data={"csrfmiddlewaretoken": csrf[1]}).raise_for_status(),
            )


def test_a_revoked_token_ends_its_streams_and_no_other(server, token):
    doomed = server.token()
    with changes(server, doomed) as stream, changes(server, token) as other:
        stream.until(b'"path":""')
        other.until(b'"path":""')
        revoke = (
            "from tasks.models import ApiToken; from django.utils import timezone;"
            "ApiToken.objects.filter(pk=ApiToken.objects.latest('pk').pk).update(revoked_at=timezone.now())"
        )
        ends_in_time(stream, lambda: shell(server, revoke))
        again = httpx.get(server.url + "/api/events/", headers={"Authorization": f"Bearer {doomed}"})
        assert again.status_code == 401
        other.body = b""
        other.until(b"event: heartbeat")


def test_a_deactivated_user_loses_their_streams(server):
    shell(server, NEW_USER.format(name="leaver", staff=False))
    with changes(server, server.token("leaver")) as stream:
        stream.until(b'"path":""')
        leaver = "from django.contrib.auth.models import User; User.objects.filter(username='leaver')"
        ends_in_time(stream, lambda: shell(server, f"{leaver}.update(is_active=False)"))


def test_staff_see_the_streams_and_others_do_not(server, token):
    shell(server, NEW_USER.format(name="plain", staff=False))
    plain = {"Authorization": f"Bearer {server.token('plain')}"}
    staff = {"Authorization": f"Bearer {token}"}
    with changes(server, token) as stream:
        stream.until(b'"path":""')
        rows = httpx.get(server.url + "/api/events/streams", headers=staff).json()
        assert [row["stream"] for row in rows] == ["changes"]
        assert rows[0]["subscribers"] >= 1
        assert json.loads(server.manage("streams", "--json"))[0]["stream"] == "changes"
        assert b"events_subscribers" in httpx.get(server.url + "/metrics", headers=staff).content
        assert "Active streams" in httpx.get(server.url + "/streams/", headers=staff).text
    for path in ("/api/events/streams", "/metrics", "/streams/"):
        assert httpx.get(server.url + path, headers=plain).status_code == 404


def test_static_files_are_served_and_asked_about(server):
    first = httpx.get(server.url + "/static/tasks/css/base.css")
    assert first.status_code == 200
    assert first.headers["content-type"].startswith("text/css")
    assert first.headers["x-content-type-options"] == "nosniff"
    since = {"If-Modified-Since": first.headers["last-modified"]}
    assert httpx.get(server.url + "/static/tasks/css/base.css", headers=since).status_code == 304
    assert httpx.head(server.url + "/static/tasks/css/base.css").content == b""
    for missing in (
        "/static/tasks/css/none.css",
        "/static/../manage.py",
        "/static/tasks/%2e%2e/%2e%2e/models.py",
    ):
        assert httpx.get(server.url + missing).status_code == 404


@pytest.mark.parametrize("debug", [False, True])
def test_what_is_no_static_file_any_more_or_never_was_is_404(settings, tmp_path, debug):
    settings.DEBUG, settings.STATICFILES_DIRS = debug, [tmp_path]
    (tmp_path / "here.css").touch()
    files = StaticFiles(None)
    assert files._find("/static/here.css")
    (tmp_path / "here.css").unlink()
    for path in ("here.css", "", "tasks", "tasks/", "../manage.py"):
        assert files._find(f"/static/{path}") is None


def test_what_pages_ask_for_is_kept_without_asking(server):
    page = httpx.get(server.url + "/", follow_redirects=True).text
    (address,) = re.findall(r'href="(/static/v-\w+/tasks/css/base.css)"', page)
    found = httpx.get(server.url + address)
    assert "immutable" in found.headers["cache-control"]
    assert found.content == httpx.get(server.url + "/static/tasks/css/base.css").content
    yesterday = httpx.get(server.url + "/static/v-0123456789ab/tasks/css/base.css")
    assert (yesterday.content, yesterday.headers["cache-control"]) == (found.content, "max-age=0, public")
    assert httpx.get(server.url + "/static/v-0123456789ab/tasks/css/none.css").status_code == 404


def test_a_restart_loses_nothing_and_says_goodbye(server, token):
    with changes(server, token) as stream:
        cursor = last_id(stream.until(b'"path":""'))
        assert server.stop() == 0
        stream.until_end()
        assert stream.complete
        assert b": goodbye" in stream.body
    rename = (
        "from tasks.models import Project; p = Project.objects.get(); p.name = 'while it was away'; p.save()"
    )
    shell(server, rename)
    server.start()
    with changes(server, token, **{"Last-Event-ID": cursor}) as stream:
        stream.until(b"while it was away")
        came = [json.loads(data) for data in messages(stream.body)]
    assert all(one["op"] == "replace" and one["path"] for one in came), "it started over"
    assert "while it was away" in [one["value"] for one in came]


def test_two_that_start_at_once_on_an_empty_folder(tmp_path):
    def starts(number):
        server = LiveServer(tmp_path, new=True)
        server.log = tmp_path / f"{number}.log"
        with server:
            return server.sign_in_link

    with ThreadPoolExecutor(2) as both:
        assert all(both.map(starts, range(2)))


def test_an_address_that_is_taken_is_said(server):
    second = LiveServer(server.data.parent / "second")
    second.port = server.port
    second.env["PORT"] = str(server.port)
    with pytest.raises(AssertionError, match=r"Cannot listen on .* Choose others by HOST and PORT"):
        second.start()
    assert second.process is not None
    assert second.process.wait() == 1
