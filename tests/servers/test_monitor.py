"""What a running server tells of its streams: to the command, to staff, to Prometheus."""

import json
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.servers.clients import opened

STAFF = {"X-User": "staff"}


def test_the_command_asks_the_running_server(start_site):
    site = start_site("daphne")
    with opened(site.port, "/room/a") as one, opened(site.port, "/room/a") as two:
        site.publish("room:a", "x" * 100, 3)
        for stream in (one, two):
            stream.until(b"2 xxx")
        printed = site.manage("streams", "--json")
        assert printed.returncode == 0, printed.stderr
        (row,) = json.loads(printed.stdout)
        assert (row["stream"], row["subscribers"], row["messages"], row["cursor"]) == ("room:a", 2, 3, 3)
        assert row["bytes"] > 300
        assert httpx.get(f"{site.base}/streams", headers=STAFF).json() == [row]
        table = site.manage("streams").stdout.splitlines()
        assert table[0].split() == ["stream", "subscribers", "messages", "bytes", "cursor"]
        assert table[1].split()[:3] == ["room:a", "2", "3"]


def test_the_command_says_when_no_server_runs(start_site):
    site = start_site("daphne")
    site.process.kill()
    site.process.wait()
    printed = site.manage("streams")
    assert printed.returncode == 1
    assert printed.stderr.strip().endswith("No server is running.")


def test_a_server_that_ends_leaves_nothing_behind(start_site):
    site = start_site("uvicorn")
    notes = Path(site.environment["SITE_DATABASE"] + ".servers")
    (note,) = notes.iterdir()
    private = Path(note.read_text()).parent
    assert private.stat().st_mode & 0o077 == 0
    site.terminate()
    assert site.process.wait(20) == 0
    assert not list(notes.iterdir())
    assert not private.exists()


def test_what_a_killed_server_left_goes_when_another_starts(start_site):
    killed, living = start_site("daphne"), start_site("uvicorn")
    notes = Path(killed.environment["SITE_DATABASE"] + ".servers")
    places = {note.name: Path(note.read_text()).parent for note in notes.iterdir()}
    assert set(places) == {str(killed.process.pid), str(living.process.pid)}
    killed.process.kill()
    killed.process.wait()
    start_site("daphne")
    assert not (notes / str(killed.process.pid)).exists()
    assert not places[str(killed.process.pid)].exists()
    assert places[str(living.process.pid)].exists()
    printed = living.manage("streams", "--json")
    assert printed.returncode == 0, printed.stderr


def test_metrics_are_for_staff_and_count(start_site):
    site = start_site("daphne")
    assert httpx.get(f"{site.base}/metrics", headers={"X-User": "nobody"}).status_code == 401
    assert httpx.get(f"{site.base}/metrics").status_code == 404
    for method in ("POST", "OPTIONS"):
        refused = httpx.request(method, f"{site.base}/metrics", headers=STAFF)
        assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, HEAD")
    assert httpx.get(f"{site.base}/streams").status_code == 404
    with opened(site.port, "/room/a") as stream:
        stream.until(b"\n\n")
        site.publish("room:a", "x", 100)
        stream.until(b"99 x")
        site.publish("room:a", "y")
        stream.until(b"0 y")
        with opened(site.port, "/room/a?cursor=unknown") as late:
            late.until(b"event: reset")
            text = httpx.get(f"{site.base}/metrics", headers=STAFF).text
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["events_subscribers", "room"] == 2
    assert found["events_messages_total",] == 101
    assert found["events_connections_total",] == 2
    assert found["events_resyncs_total",] == 1
    assert 1 <= found["events_publish_to_write_seconds_count",] <= 102
    assert found["events_bytes_total",] > 101 * 20
